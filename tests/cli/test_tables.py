"""The commands that print tables: records on disk, a page, the tables of these records."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from gradiometer import data
from gradiometer.benchmarks import attacks, corruptions, demo, mistakes, null, ood, records
from gradiometer.benchmarks.outcome import Outcome
from tests.cli.conftest import Run, Workshop


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets: digits under another name, and noise."""
    folder = tmp_path_factory.mktemp("root")
    digits = data.load("digits", limit=400)
    pixels, labels = digits.images[:, 0].numpy(), digits.labels
    assert labels is not None
    np.savez(
        folder / "numbers.npz",
        train_images=pixels[:200],
        train_labels=labels[:200].numpy(),
        test_images=pixels[200:],
        test_labels=labels[200:].numpy(),
    )
    noise = np.random.default_rng(0).integers(0, 256, (60, 10, 10), dtype=np.uint8)
    np.savez(folder / "noise.npz", test_images=noise)
    return folder


@pytest.fixture(scope="module")
def outcome(root: Path, workshop: Workshop) -> Outcome:
    """What Python makes of the same settings as the command below."""
    return ood.run(
        ood.OodSettings(
            data_root=root,
            model=str(workshop.model),
            known="numbers",
            challenges=("noise",),
            out=root / "table",
            fit_images=150,
            draws=20,
        )
    )


def test_benchmark_ood(
    workshop: Workshop, root: Path, outcome: Outcome, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIOMETER_DATA_ROOT", str(root))
    words = (
        "--model",
        workshop.model,
        "--known",
        "numbers",
        "--challenges",
        "noise",
        "--draws",
        20,
        "--fit-images",
        150,
    )
    said = run("benchmark", "ood", *words, "--out", tmp_path / "table")
    assert said.code == 0, said.err
    made = records.read(tmp_path / "table" / "records.jsonl")
    assert {record.challenge for record in made} == {"noise", "re-encoded known", ood.JPEG_CONTROL}
    assert {record.model for record in made} == {str(workshop.model)}
    assert [record.metrics for record in made] == [record.metrics for record in outcome.records]
    assert "noise" in said.out
    assert "Realised false-alarm rate" in said.out
    assert (tmp_path / "table" / "report.html").read_text(encoding="utf-8").startswith("<!")
    for name in ("tables.md", "tables.tex", "layers.svg", "roc.svg", "differences.jsonl"):
        assert (tmp_path / "table" / name).stat().st_size > 0
    said = run("benchmark", "ood", *words, "--data-root", tmp_path / "elsewhere", "--out", tmp_path / "table")
    assert said.code == 1
    assert "numbers" in said.err


def test_all_tables_share_their_settings_and_have_a_folder_each(
    outcome: Outcome, run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each table has its own test; here a finished outcome takes the place of all of them."""
    asked: list[object] = []

    def instead(given: object, **_: object) -> object:
        asked.append(given)
        given.out.mkdir(parents=True)  # type: ignore[attr-defined]
        return outcome.records if isinstance(given, null.NullSettings) else outcome

    for module in (null, ood, attacks, corruptions):
        monkeypatch.setattr(module, "run", instead)
    out = tmp_path / "tables"
    said = run("benchmark", "all", "--data-root", root, "--limit", 50, "--seeds", 4, 5, "--out", out)
    assert said.code == 0, said.err
    assert [type(given) for given in asked] == [
        null.NullSettings,
        ood.OodSettings,
        attacks.AttackSettings,
        corruptions.CorruptionSettings,
        corruptions.CorruptionSettings,
    ]
    assert {given.limit for given in asked} == {50}  # type: ignore[attr-defined]
    assert {given.seeds for given in asked} == {(4, 5)}  # type: ignore[attr-defined]
    assert [given.reading for given in asked[3:]] == ["cifar10c", "cure"]  # type: ignore[attr-defined]
    folders = {"null", "ood", "attacks", "corruptions-cifar10c", "corruptions-cure"}
    assert {path.name for path in out.iterdir()} == folders
    assert all((out / name / "tables.md").exists() for name in folders)


def test_benchmark_mistakes_hands_its_settings_over(
    outcome: Outcome, run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table itself has its own test; here a finished outcome takes its place."""
    asked: list[mistakes.MistakeSettings] = []

    def instead(given: mistakes.MistakeSettings, **_: object) -> Outcome:
        asked.append(given)
        given.out.mkdir(parents=True)
        return outcome

    monkeypatch.setattr(mistakes, "run", instead)
    out = tmp_path / "table"
    words = ("--types", "fog", "snow", "--levels", 1, 5, "--limit", 50)
    said = run("benchmark", "mistakes", "--data-root", root, *words, "--out", out)
    assert said.code == 0, said.err
    expected = {"types": ("fog", "snow"), "levels": (1, 5), "limit": 50}
    assert asked == [mistakes.MistakeSettings(data_root=root, out=out, **expected)]
    assert asked[0].protocols == ("known-only", "matched")
    assert (out / "tables.md").exists()


@pytest.mark.parametrize("with_extra", [True, False])
def test_demo_hands_its_settings_over_and_publishes_the_outcome(
    with_extra: bool, outcome: Outcome, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demonstration itself has its own test; here a smaller outcome takes its place."""
    asked: list[demo.DemoSettings] = []

    def instead(given: demo.DemoSettings, **_: object) -> object:
        asked.append(given)
        return outcome

    monkeypatch.setattr(demo, "run", instead)
    if not with_extra:
        monkeypatch.setitem(sys.modules, "jinja2", None)
    out = tmp_path / "page.html"
    said = run("demo", "--out", out, "--images", 40, "--epochs", 1, "--draws", 20, "--limit", 300, "--seed", 3)
    assert said.code == 0, said.err
    assert asked == [demo.DemoSettings(out=out, images=40, epochs=1, draws=20, limit=300, seed=3)]
    assert "noise" in said.out
    assert out.exists() == with_extra
    assert (f"report: {out}" in said.out) == with_extra
    assert ("no report was written" in said.err) != with_extra
