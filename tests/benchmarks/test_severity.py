"""The benchmark of severity on small data sets that are made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradiometer.anomaly import AnomalyRecipe
from gradiometer.benchmarks import grades, severity
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.severity import graded, methods, retina, sections, tables
from gradiometer.benchmarks.severity.settings import SeveritySettings
from gradiometer.errors import ArtefactError, InputError
from gradiometer.severity import SeverityTable


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that are darker with their grade, and sections with a hole."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {"class_names": np.array(list("01234"))}
    for split, count in (("train", 160), ("val", 20), ("test", 30)):
        labels = (
            np.arange(count) % 5 if split != "train" else np.minimum(np.arange(count) % 8, 4) * (np.arange(count) % 2)
        )
        images = random.integers(80, 160, (count, 28, 28, 3)) - 15 * labels[:, None, None, None]
        images[:, 0, :4] = 0  # a dark margin, of which every other scan has more
        images[::2, 1, :4] = 0
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None]}
    np.savez(folder / "retina_mnist.npz", **arrays)
    scans = random.integers(100, 140, (11, 140, 140)).astype(np.uint8)
    scans[4:8, 40:70, 40:70] = 0
    marks = np.array([0] * 4 + [1] * 4 + [2] * 3)[:, None]
    names = np.array(["dry", "wet", "unlabelled"])
    np.savez(folder / "oct_srf.npz", test_images=scans, test_labels=marks, class_names=names)
    return folder


@pytest.fixture(scope="module")
def settings(root: Path, tmp_path_factory: pytest.TempPathFactory) -> SeveritySettings:
    out = tmp_path_factory.mktemp("severity")
    parts = ("retina", "oct")
    return SeveritySettings(
        root, out, parts=parts, contrasts=("as-is", "local"), seeds=(0,), epochs=1, oct_epochs=1, draws=30
    )


@pytest.fixture(scope="module")
def page(settings: SeveritySettings) -> str:
    with pytest.MonkeyPatch.context() as patch:
        # The recipe's batch of 64 is more than there is to learn from here.
        patch.setattr(
            SeveritySettings,
            "recipe",
            lambda self, alpha, seed, epochs: AnomalyRecipe(epochs=epochs, batch_size=16, seed=seed),
        )
        text = severity.run(settings)
        seen: list[object] = []
        assert severity.run(settings, finished=seen.append) == text
        assert seen == []  # everything was there
        model = sections.final(severity.SeverityBench(settings), sections.load(settings.data_root))
    assert model.calibration is not None
    assert len(model.calibration) == 1
    return text


def test_every_method_has_a_row_and_every_score_a_record(page: str, settings: SeveritySettings) -> None:
    found = graded.read(settings.records)
    retinas = [one for one in found if one.part == "retina"]
    scores = {(one.model, one.score, one.contrast) for one in retinas}
    assert len(scores) == 2 * (1 + 1 + 2 * 6) + 2
    for one in retinas:
        assert one.test.scans == 30
        assert one.test.severe == 18
        assert one.counts["validation"] == 20
        assert one.validation is not None
        assert (one.gain is None) == (one.score in ("reconstruction", "known-only") or one.model == methods.BRIGHTNESS)
        assert one.control == (one.score == "reconstruction" or one.model not in methods.ALPHAS)
    dark = next(one for one in retinas if one.score == "darkness")
    assert dark.test.spearman is not None
    assert dark.test.spearman.value > 0.9
    assert f"| no model, darkness, pixels as-is | {dark.test.spearman.value:.3f} (" in page
    assert (settings.out / "tables.md").read_text(encoding="utf-8") == page == severity.render(settings.out)


def test_test_photographs_are_in_the_table_of_the_figure(page: str, settings: SeveritySettings) -> None:
    table = SeverityTable.read(settings.out / retina.TABLE)
    assert len(table) == 30
    assert table.grades is not None
    assert np.bincount(table.grades).tolist() == [6] * 5
    assert table.labels is not None


def test_a_hole_in_a_section_is_found_by_components(page: str, settings: SeveritySettings) -> None:
    found = {(one.model, one.score): one for one in graded.read(settings.records) if one.part == "oct"}
    assert len(found) == 8
    one = found[methods.PCA, "reconstruction, max over tiles"]
    assert one.test.spearman is None
    assert one.test.auroc == Interval(1.0, 1.0, 1.0)
    assert one.test.scans == 16
    assert "| PCA, reconstruction, max over tiles | 1.000 (1.000–1.000) |" in page


def test_nothing_but_healthy_scans_is_learnt_from(settings: SeveritySettings) -> None:
    found = retina.load(settings.data_root)
    assert set(retina.labels(found.healthy).tolist()) == {0}
    sets = retina.sets_of(found, "as-is", 0)
    known = {image.numpy().tobytes() for image in found.healthy.images}
    assert {image.numpy().tobytes() for image in sets.train} | {i.numpy().tobytes() for i in sets.chosen_by} < known
    assert len(sets.test) == 30


def test_a_mean_over_seeds_needs_all_of_them() -> None:
    intervals = [Interval(0.2, 0.1, 0.3), Interval(0.4, 0.2, 0.5)]
    assert tables.mean_of(intervals) == Interval(pytest.approx(0.3), pytest.approx(0.15), pytest.approx(0.4))
    assert tables.mean_of([*intervals, None]) is None
    assert tables.mean_of([]) is None


def test_pairs_are_resampled_on_both_sides() -> None:
    random = np.random.default_rng(0)
    pairs = (random.normal(size=(30, 1)) < random.normal(1, 1, size=(1, 40))).astype(float)
    found = sections.pair_interval(pairs, seed=0, draws=500)
    assert found.value == pytest.approx(pairs.mean())
    # The deviation of an area under the curve, by Hanley and McNeil (1982).
    area, first, second = pairs.mean(), pairs.mean(1).var(ddof=1) / 30, pairs.mean(0).var(ddof=1) / 40
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(first + second), rel=0.15)
    assert area in found


def test_what_cannot_run_is_refused(settings: SeveritySettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no part 'heart'"):
        replace(settings, parts=("heart",))
    with pytest.raises(InputError, match="no contrast 'high'"):
        replace(settings, contrasts=("high",))
    (tmp_path / "records.jsonl").write_text('{"part": 1}\n', encoding="utf-8")
    with pytest.raises(ArtefactError, match="line 1 is no record of grades"):
        graded.read(tmp_path / "records.jsonl")


def test_real_photographs_are_divided_by_grade_and_follow_darkness(data_root: Path) -> None:
    found = retina.load(data_root)
    assert [len(part) for part in (found.healthy, found.validation, found.test)] == [486, 120, 400]
    right = retina.labels(found.validation)
    dark = methods.brightness(found.validation.images)["share of dark pixels"]
    assert grades.spearman(dark, right) == pytest.approx(0.590, abs=0.001)  # SciPy's spearmanr of the same
    sets = retina.sets_of(found, "local", 0)
    scores = methods.scores_of(methods.PCA, sets, SeveritySettings(data_root), 0).validation["reconstruction"]
    assert grades.spearman(scores, right) > 0.3
    assert abs(grades.spearman(scores, dark)) < grades.spearman(dark, right)
