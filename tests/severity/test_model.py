"""The severity model: scores that depend on the scan alone, percentiles, tiles, files, and a manifold that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer.anomaly import AnomalyRecipe, maps_of
from gradiometer.benchmarks.grades import spearman
from gradiometer.data import Images
from gradiometer.detectors import storage
from gradiometer.errors import ArtefactError, InputError, NotFittedError
from gradiometer.severity import ARTEFACT, Preparation, SeverityModel, train_severity
from tests.severity.manifold import PATIENTS, scans

RECIPE = AnomalyRecipe(epochs=12, batch_size=32)
QUICK = AnomalyRecipe(epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SeverityModel, Path]:
    folder = tmp_path_factory.mktemp("severity")
    return train_severity(
        scans(240, 0, 0), folder, Preparation(channels=1), RECIPE, settings={"score": "subspace"}
    ), folder


@pytest.fixture(scope="module")
def model(trained: tuple[SeverityModel, Path]) -> SeverityModel:
    return trained[0]


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> SeverityModel:
    seen = Preparation(channels=1, size=(24, 24), tile=10, contrast="standard")
    return train_severity(scans(40, 0, 1), tmp_path_factory.mktemp("tiled"), seen, QUICK, pool="max")


def test_the_known_severity_of_a_manifold_is_recovered(model: SeverityModel) -> None:
    severity = np.linspace(0, 1, 100)
    statistics = model.statistics(scans(100, severity, 7))
    found = {
        name: spearman(model.score_by(name, statistics), severity)
        for name in ("gradient", "subspace", "reconstruction")
    }
    assert found["gradient"] > 0.9
    assert found["subspace"] > 0.75
    # What is bright is far from healthy in the pixels too, but the layers hide it from the mean error.
    assert found["reconstruction"] < found["subspace"]


def test_healthy_scans_are_spread_over_the_percentiles_and_severe_ones_are_beyond(model: SeverityModel) -> None:
    healthy, severe = (model.percentile(model.score(scans(60, one, 9))) for one in (0.0, 1.0))
    assert 0.2 < healthy.mean() < 0.8
    assert severe.mean() > 0.9
    assert model.calibration is not None
    held_out = len(model.calibration)
    assert severe.max() == pytest.approx(held_out / (held_out + 1))


def test_percentiles_follow_the_scores(model: SeverityModel) -> None:
    scores = np.sort(model.score(scans(30, np.linspace(0, 1, 30), 3)))
    assert (np.diff(model.percentile(scores)) >= 0).all()
    assert model.percentile([-np.inf, np.inf]).tolist() == [0.0, pytest.approx(1 - 1 / (1 + len(model.calibration)))]  # type: ignore[arg-type]


def test_a_score_depends_on_the_scan_alone(model: SeverityModel, tiled: SeverityModel) -> None:
    some = scans(9, np.linspace(0, 1, 9), 5)
    order = np.random.default_rng(0).permutation(9)
    for one in (model, tiled):
        scores = one.score(some)
        # What is left of one: its rounding is that of one. A scan that is last and alone takes a pass of its own.
        np.testing.assert_allclose(one.score(some.select(order)), scores[order], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.score(some.images[3:4]), scores[3:4], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one.score(some.images / 255), scores)


def test_a_saved_model_gives_the_same_scores_to_the_last_bit(
    trained: tuple[SeverityModel, Path], tiled: SeverityModel, tmp_path: Path
) -> None:
    some = scans(20, 0.5, 4)
    for one, path in ((trained[0], trained[1] / ARTEFACT), (tiled, tmp_path / "tiled.safetensors")):
        if one is tiled:
            one.save(path)
        again = SeverityModel.load(path)
        assert again.score(some).tobytes() == one.score(some).tobytes()
        assert (again.preparation, again.pool) == (one.preparation, one.pool)
        first, second = one.judge(some), again.judge(some)
        assert first.p_values.tobytes() == second.p_values.tobytes()
        assert first.profile.tobytes() == second.profile.tobytes()
        assert again.detector.training["images"] == one.detector.training["images"]


def test_tiles_are_scored_as_images_of_their_own(tiled: SeverityModel) -> None:
    some = scans(3, 1.0, 6)
    tiles = tiled.preparation.apply(some)
    assert tiles.shape[:2] == (3, 9)
    each = tiled.detector.predict(tiles.flatten(0, 1).numpy()).numpy().reshape(3, 9)
    np.testing.assert_allclose(tiled.score(some), each.max(1), rtol=1e-6)
    mean = SeverityModel(tiled.detector, tiled.preparation, "mean")
    np.testing.assert_allclose(mean.score(some), each.mean(1), rtol=1e-6)
    worst = tiles[np.arange(3), each.argmax(1)]
    np.testing.assert_allclose(tiled.judge(some).profile, tiled.detector.explain(worst.numpy()).z, atol=1e-3)


def test_maps_of_tiles_are_put_together(tiled: SeverityModel, model: SeverityModel) -> None:
    some = scans(2, 1.0, 6)
    maps = tiled.maps(some)
    assert maps.energy.shape == (2, 24, 24)
    corner = maps_of(tiled.detector, tiled.preparation.apply(some)[:, 0].numpy()).reconstruction
    np.testing.assert_allclose(maps.reconstruction[:, :7, :7], corner[:, :7, :7], rtol=1e-5)
    whole = maps_of(model.detector, some.images.numpy()).reconstruction
    np.testing.assert_allclose(model.maps(some).reconstruction, whole, rtol=1e-5)


def test_patients_are_not_divided(trained: tuple[SeverityModel, Path]) -> None:
    counts = trained[0].detector.training["images"]
    assert counts["train"] % PATIENTS == counts["validation"] % PATIENTS == 0
    assert trained[0].calibration is not None
    assert counts["train"] + counts["validation"] + len(trained[0].calibration) == 240


def test_an_interrupted_training_continues_to_the_same_scores(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3 * total // 4:
            raise Enough

    healthy, some = scans(60, 0, 2), scans(5, 0.5, 3)
    recipe = AnomalyRecipe(epochs=4, batch_size=16)
    whole = train_severity(healthy, tmp_path / "whole", recipe=recipe)
    with pytest.raises(Enough):
        train_severity(healthy, tmp_path / "parts", recipe=recipe, steps=stop)
    again = train_severity(healthy, tmp_path / "parts", recipe=recipe)
    assert again.score(some).tobytes() == whole.score(some).tobytes()


def test_a_rate_that_the_held_out_scans_cannot_give_becomes_the_lowest_possible(tiled: SeverityModel) -> None:
    assert tiled.calibration is not None
    assert tiled.calibration.false_alarm_rate == 1 / (len(tiled.calibration) + 1) > 0.05


def test_given_scans_choose_the_weights_and_the_percentiles(tmp_path: Path) -> None:
    validation, held_out = scans(8, 0, 5), scans(12, 0, 6)
    found = train_severity(scans(40, 0, 4), tmp_path, recipe=QUICK, validation=validation, held_out=held_out)
    assert found.detector.training["images"] == {"train": 40, "validation": 8}
    assert found.calibration is not None
    np.testing.assert_array_equal(found.calibration.scores, np.sort(found.score(held_out)))


def test_percentiles_are_not_taken_from_scans_of_the_training(
    trained: tuple[SeverityModel, Path], tiled: SeverityModel, tmp_path: Path
) -> None:
    healthy, others = scans(40, 0, 1), scans(40, 0, 8)
    for one, known in ((SeverityModel.load(trained[1] / ARTEFACT), scans(240, 0, 0)), (tiled, healthy)):
        model = SeverityModel(one.detector, one.preparation, one.pool)
        with pytest.raises(
            InputError, match=r"held-out scans .* were also fitted on, so the percentiles would not hold"
        ):
            model.calibrate(known)
        with pytest.raises(InputError, match="also fitted on"):
            model.calibrate(known.images.float() / 255)
        assert model.calibrate(others).calibration is not None
    calls: list[int] = []
    with pytest.raises(InputError, match="40 of 40 held-out scans"):
        train_severity(
            healthy, tmp_path, recipe=QUICK, validation=others, held_out=healthy, steps=lambda *_: calls.append(1)
        )
    assert not calls


def test_a_dark_corner_that_many_scans_share_does_not_make_them_the_same(tmp_path: Path) -> None:
    healthy, others = scans(40, 0, 1), scans(20, 0, 8)
    for part in (healthy, others):
        part.images[:, :, :8, :8] = 0
    seen = Preparation(channels=1, tile=8)
    model = train_severity(healthy, tmp_path, seen, QUICK, validation=scans(8, 0, 9), held_out=others)
    assert model.calibration is not None
    assert len(model.calibration) == 20


def test_a_blank_scan_is_named_and_not_called_healthy(tiled: SeverityModel) -> None:
    some = scans(80, 0, 3)
    some.images[70] = 255
    for call in (tiled.score, tiled.judge, tiled.maps):
        with pytest.raises(InputError, match=rf"{some.names[70]} has no contrast"):
            call(some)
    with pytest.raises(InputError, match="scan 70 has no contrast"):
        tiled.score(some.images)


def test_what_cannot_be_is_refused(model: SeverityModel, tmp_path: Path) -> None:
    fresh = SeverityModel(model.detector, model.preparation)
    for call in (
        lambda: fresh.percentile([0.1]),
        lambda: fresh.judge(scans(1, 0, 0)),
        lambda: fresh.save(tmp_path / "m"),
    ):
        with pytest.raises(NotFittedError, match="call calibrate"):
            call()
    with pytest.raises(InputError, match="pool must be one of mean, max"):
        SeverityModel(model.detector, model.preparation, "median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="N of one or more"):
        model.score(torch.zeros(0, 1, 16, 16))
    with pytest.raises(InputError, match="finite"):
        model.score(torch.full((1, 1, 16, 16), torch.nan))
    with pytest.raises(InputError, match=r"17"):
        model.score(torch.zeros(1, 1, 17, 17))
    with pytest.raises(InputError, match="score must be one of"):
        train_severity(scans(40, 0, 4), tmp_path, recipe=QUICK, settings={"score": "size"})
    with pytest.raises(InputError, match="cannot be divided"):
        train_severity(Images.of(torch.zeros(2, 1, 16, 16, dtype=torch.uint8)), tmp_path, recipe=QUICK)


@pytest.mark.parametrize(
    ("scans", "said"),
    [("tees", "got 'tees'"), (None, "got None"), ([torch.zeros(1, 16, 16)] * 2, "got a list"), ({}, "dict")],
)
def test_what_is_no_tensor_is_refused_in_one_line(model: SeverityModel, scans: object, said: str) -> None:
    for call in (model.score, model.judge, model.maps, model.preparation.apply):
        with pytest.raises(InputError, match=f"scans must be data.Images, or one tensor or array.*{said}"):
            call(scans)


def test_a_file_of_something_else_is_refused(trained: tuple[SeverityModel, Path], tmp_path: Path) -> None:
    trained[0].detector.save(tmp_path / "gradcon.safetensors")
    with pytest.raises(ArtefactError, match="holds a GradCon; give a file that severity train wrote"):
        SeverityModel.load(tmp_path / "gradcon.safetensors")
    whole = (trained[1] / ARTEFACT).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="truncated"):
        SeverityModel.load(tmp_path / "cut.safetensors")
    artefact = storage.read(trained[1] / ARTEFACT)
    storage.write(
        tmp_path / "less.safetensors", {n: v for n, v in artefact.header.items() if n != "pool"}, artefact.tensors
    )
    with pytest.raises(ArtefactError, match="'pool'"):
        SeverityModel.load(tmp_path / "less.safetensors")


def test_a_score_that_needs_more_scans_says_so_before_training(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    healthy = Images.of(torch.randint(0, 256, (40, 1, 16, 16), generator=generator, dtype=torch.uint8))
    with pytest.raises(InputError, match="fused keeps"):
        train_severity(healthy, tmp_path / "run", settings={"score": "fused"})
    with pytest.raises(InputError, match="pool must be one of mean, max"):
        train_severity(healthy, tmp_path / "run", pool="median")  # type: ignore[arg-type]
    for rate in (2.0, -1.0):
        with pytest.raises(InputError, match=f"false_alarm_rate is {rate}"):
            train_severity(healthy, tmp_path / "run", false_alarm_rate=rate)
    assert not (tmp_path / "run").exists()
