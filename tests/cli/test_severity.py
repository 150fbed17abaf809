"""Severity by the commands alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradiometer.cli import main
from gradiometer.cli.severity.run import Options as RunOptions
from gradiometer.cli.severity.run import _page
from gradiometer.cli.terminal import Terminal
from gradiometer.data import Cohort, Images
from gradiometer.reports import severities
from gradiometer.severity import SeverityModel, SeverityTable
from tests.cli.conftest import Run
from tests.severity.manifold import scans


def save(folder: Path, count: int, severity: object, seed: int) -> None:
    folder.mkdir()
    some = scans(count, severity, seed)  # type: ignore[arg-type]
    for name, image in zip(some.names, some.images, strict=True):
        Image.fromarray(image[0].numpy()).save(folder / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of scans, and a model by the command."""
    folder = tmp_path_factory.mktemp("severity")
    save(folder / "healthy", 60, 0, 0)
    save(folder / "more", 20, 0, 1)
    save(folder / "new", 24, np.linspace(0, 1, 24), 2)
    words = f"severity train --healthy {folder / 'healthy'} --epochs 2 --batch-size 16 --out {folder / 'run'}"
    assert main(words.split()) == 0
    return folder


def test_training_says_what_it_made_and_goes_on_where_it_was(home: Path, run: Run) -> None:
    before = (home / "run" / "severity.safetensors").read_bytes()
    words = (
        "severity",
        "train",
        "--healthy",
        home / "healthy",
        "--batch-size",
        16,
        "--out",
        home / "run",
        "--epochs",
        2,
    )
    said = run(*words)
    assert said.code == 0, said.err
    assert "percentiles from 6 healthy scans" in said.out
    assert "too few for a false-alarm rate of 0.05" in said.err
    assert "epoch 1" not in said.err
    assert (home / "run" / "severity.safetensors").read_bytes() == before
    model = SeverityModel.load(home / "run" / "severity.safetensors")
    assert (model.detector.score, model.preparation.contrast, model.preparation.size) == ("subspace", "local", (16, 16))


def test_scores_labels_and_page(home: Path, run: Run, tmp_path: Path) -> None:
    new = tmp_path / "scans"
    new.mkdir()
    for path in (home / "new").iterdir():
        (new / path.name).write_bytes(path.read_bytes())
    broken = sorted(new.iterdir())[3]
    broken.write_bytes(b"no image")
    table = tmp_path / "scores.csv"
    words = ("severity", "score", "--model", home / "run", "--images", new, "--out", table, "--patient", "(P[0-9]+)_")
    said = run(*words)
    assert said.code == 0, said.err
    assert f"not scored: {broken}" in said.err.replace("\n", "") or broken.name in said.err
    assert "23 scans" in said.out
    assert "1 failures" in said.out
    found = SeverityTable.read(table)
    assert len(found) == 23
    assert found.patients is not None
    assert found.patients[0] == "P000"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scans", "scores.csv"]
    again = run(*words)
    assert again.code == 1
    assert "exists already" in again.err
    labels = tmp_path / "labels.parquet"
    said = run("severity", "label", "--table", table, "--bins", 5, "--out", labels)
    assert said.code == 0, said.err
    assert "23 scans in 5 bins of 4 to 5 (equal-frequency)" in said.out
    labelled = SeverityTable.read(labels)
    assert labelled.labels is not None
    assert np.bincount(labelled.labels).tolist() == [5, 5, 4, 5, 4]
    said = run("severity", "label", "--table", table, "--bins", 24, "--out", tmp_path / "none.csv")
    assert said.code == 1
    assert "24 bins are more than the 23 scans" in said.err
    page = tmp_path / "page.html"
    said = run(
        *("severity", "report", "--model", home / "run", "--table", labels, "--images", new),
        *("--healthy", home / "more", "--out", page, "--top", 4),
    )
    assert said.code == 0, said.err
    names = re.findall(r'class="name">\d+\. (.*?)</p>', page.read_text(encoding="utf-8"))
    assert names == list(labelled.ranked().files[:4])
    said = run(
        *("severity", "report", "--model", home / "run", "--table", labels, "--images", home / "more"),
        *("--healthy", home / "more", "--out", page),
    )
    assert said.code == 1
    assert "has no scan" in said.err


def test_a_page_finds_the_scans_however_their_folder_is_typed(
    home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, words = tmp_path / "scores.csv", ("severity", "report", "--model", home / "run", "--healthy", home / "more")
    assert run(*("severity", "score", "--model", home / "run", "--images", home / "new", "--out", table)).code == 0
    ranked = SeverityTable.read(table).ranked().files[:4]
    for place, typed in ((home, "new"), (home / "new", "."), (home / "more", "../new")):
        monkeypatch.chdir(place)
        page = tmp_path / "page.html"
        said = run(*words, "--table", table, "--images", typed, "--out", page, "--top", 4)
        assert said.code == 0, said.err
        assert re.findall(r'class="name">\d+\. (.*?)</p>', page.read_text(encoding="utf-8")) == list(ranked)
        page.unlink()
    # Two scans that could both be the one of the table are not chosen among.
    monkeypatch.chdir(home / "new")
    assert (
        run(*("severity", "score", "--model", home / "run", "--images", ".", "--out", tmp_path / "near.csv")).code == 0
    )
    for name in ("first", "second"):
        (tmp_path / "both" / name).mkdir(parents=True)
        for path in (home / "new").iterdir():
            (tmp_path / "both" / name / path.name).write_bytes(path.read_bytes())
    said = run(*words, "--table", tmp_path / "near.csv", "--images", tmp_path / "both", "--out", tmp_path / "page.html")
    assert said.code == 1
    assert "could be" in said.err


def test_class_folders_are_grades_only_where_they_are_numbers(
    home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("severity", "score", "--model", home / "run", "--grades", "--images")
    for kind, names in (("names", ("none", "mild", "severe")), ("numbers", ("0", "2", "10"))):
        (tmp_path / kind).mkdir()
        for severity, name in enumerate(names):
            save(tmp_path / kind / name, 4, severity / 2, 20 + severity)
    with monkeypatch.context() as patch:
        patch.setattr(SeverityModel, "judge", lambda *_: pytest.fail("a scan was scored"))
        said = run(*words, tmp_path / "names", "--out", tmp_path / "t.csv")
    assert said.code == 1
    assert "mild = 0, none = 1, severe = 2" in said.err.replace("\n", " ")
    assert "name the classes 0, 1, 2, ..." in said.err.replace("\n", " ")
    said = run(*words, tmp_path / "numbers", "--out", tmp_path / "t.csv")
    assert said.code == 0, said.err
    table = SeverityTable.read(tmp_path / "t.csv")
    assert table.grades is not None
    assert [Path(file).parent.name for file in table.files] == [str(grade) for grade in table.grades]


def test_a_name_with_another_end_of_line_is_a_name(home: Path, run: Run, tmp_path: Path) -> None:
    new = tmp_path / "scans"
    new.mkdir()
    name = "left\u2028eye\x85.png"
    (new / name).write_bytes(next((home / "new").glob("*.png")).read_bytes())
    said = run("severity", "score", "--model", home / "run", "--images", new, "--out", tmp_path / "t.parquet")
    assert said.code == 0, said.err
    assert [Path(file).name for file in SeverityTable.read(tmp_path / "t.parquet").files] == [name]


def test_a_blank_scan_is_a_failure_with_its_reason(home: Path, run: Run, tmp_path: Path) -> None:
    save(tmp_path / "scans", 5, 0, 6)
    for name, level in (("black.png", 0), ("white.png", 255)):
        Image.new("L", (16, 16), level).save(tmp_path / "scans" / name)
    table = tmp_path / "scores.csv"
    said = run("severity", "score", "--model", home / "run", "--images", tmp_path / "scans", "--out", table)
    assert said.code == 0, said.err
    assert "5 scans" in said.out
    assert "2 failures" in said.out
    assert "black.png: the scan has no contrast" in said.err.replace("\n", "")
    assert not [file for file in SeverityTable.read(table).files if "P0" not in file]


def test_percentiles_from_scans_of_the_training_are_refused_before_it_begins(
    home: Path, run: Run, tmp_path: Path
) -> None:
    healthy = home / "healthy"
    said = run("severity", "train", "--healthy", healthy, "--held-out", healthy, "--epochs", 1, "--out", tmp_path / "m")
    assert said.code == 1
    assert "held-out scans" in said.err
    assert "were also fitted on" in said.err.replace("\n", " ")
    assert "epoch 1" not in said.err


def test_an_interrupted_run_gives_the_same_table(
    home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("severity", "score", "--model", home / "run", "--images", home / "new", "--out")
    assert run(*words, tmp_path / "whole.csv").code == 0
    judge, calls = SeverityModel.judge, []

    def twice(self: SeverityModel, images: object) -> object:
        calls.append(len(images))  # type: ignore[arg-type]
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge(self, images)

    monkeypatch.setattr(SeverityModel, "batch_size", property(lambda self: 8))
    monkeypatch.setattr(SeverityModel, "judge", twice)
    said = run(*words, tmp_path / "parts.csv")
    assert said.code == 130
    assert "run the same command again" in said.err
    assert not (tmp_path / "parts.csv").exists()
    assert run(*words, tmp_path / "parts.csv").code == 0
    assert calls == [8, 8, 8, 8]
    whole, parts = (SeverityTable.read(tmp_path / f"{name}.csv") for name in ("whole", "parts"))
    assert parts.files == whole.files
    # In batches of another size, products of float32 may be rounded otherwise.
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.csv", "whole.csv"]


def test_grades_of_a_source_come_along(home: Path, run: Run, tmp_path: Path) -> None:
    some = scans(20, np.linspace(0, 1, 20), 5)
    grades = np.arange(20) // 5
    np.savez(tmp_path / "graded.npz", test_images=some.images[:, 0].numpy(), test_labels=grades)
    source, table = f"{tmp_path / 'graded.npz'}:test", tmp_path / "graded.parquet"
    said = run("severity", "score", "--model", home / "run", "--images", source, "--grades", "--out", table)
    assert said.code == 0, said.err
    found = SeverityTable.read(table)
    assert found.grades is not None
    assert found.grades.tolist() == grades.tolist()
    page = tmp_path / "graded.html"
    words = ("severity", "report", "--model", home / "run", "--table", table, "--images", source, "--out", page)
    said = run(*words, "--healthy", home / "more")
    assert said.code == 0, said.err
    text = page.read_text(encoding="utf-8")
    assert "Severity score of 20 scans against their grade" in text
    assert re.search(r"rank correlation of score and grade</dt><dd>-?\d\.\d{3} \(", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score", "--images", "{new}", "--out", "t.csv", "--patient", "(Q[0-9]+)"), "finds no patient in the name"),
        (("score", "--images", "{new}", "--out", "t.csv", "--patient", "("), "which is no regular expression"),
        (("score", "--images", "{new}", "--out", "t.csv", "--grades"), "has no labels that could be grades"),
        (("score", "--images", "{new}", "--out", "t.txt"), "must end in .parquet or .csv"),
        (("score", "--images", "{new}", "--out", "none/t.csv"), "there is no folder"),
        (("score", "--images", "{new}@0-50", "--out", "t.csv"), "leave @ out"),
    ],
)
def test_mistakes_are_named(
    words: tuple[str, ...], message: str, home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(new=home / "new") for word in words]
    said = run("severity", given[0], "--model", home / "run", *given[1:])
    assert said.code == 1
    assert message in said.err
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("score", ["whitened", "aligned"])
def test_scores_that_learn_from_a_pass_of_their_own(home: Path, run: Run, tmp_path: Path, score: str) -> None:
    words = f"severity train --healthy {home / 'healthy'} --epochs 2 --batch-size 16 --score {score} --out {tmp_path}"
    said = run(*words.split())
    assert said.code == 0, said.err
    model = SeverityModel.load(tmp_path / "severity.safetensors")
    assert model.detector.score == score
    severe, healthy = (model.score(scans(20, one, 4)) for one in (1.0, 0.0))
    assert np.median(severe) > np.median(healthy)


def test_scans_of_a_page_keep_the_shape_that_the_model_takes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    some = scans(40, 0, 0)
    for name, image in zip(some.names, some.images, strict=True):
        Image.fromarray(np.hstack([image[0].numpy()] * 2)).save(folder / name)
    shapes: list[tuple[int, ...]] = []

    def write(model: SeverityModel, shown: Images, healthy: Images, *_: object, **__: object) -> Path:
        shapes.extend([tuple(shown.images.shape[1:]), tuple(healthy.images.shape[1:])])
        return tmp_path

    monkeypatch.setattr(severities, "write", write)
    words = ("--healthy", folder, "--out")
    said = run("severity", "train", *words, tmp_path, "--epochs", 1, "--batch-size", 16)
    assert said.code == 0, said.err
    table = tmp_path / "table.csv"
    assert run("severity", "score", "--model", tmp_path, "--images", folder, "--out", table).code == 0
    said = run(
        *("severity", "report", "--model", tmp_path, "--table", table, "--images", folder, *words, tmp_path / "p.html")
    )
    assert said.code == 0, said.err
    model, terminal = SeverityModel.load(tmp_path / "severity.safetensors"), Terminal()
    options = RunOptions(healthy=str(folder), images="", train="", targets=(), out=str(tmp_path), size=8)
    _page(options, model, Cohort.of(some), SeverityTable.read(table), [], terminal)
    assert shapes == [(1, 16, 32), (1, 16, 32), (1, 16, 16), (1, 16, 32)]


def test_commands_for_detectors_say_which_one_reads_a_severity_model(home: Path, run: Run, tmp_path: Path) -> None:
    model = home / "run" / "severity.safetensors"
    for words in (("score", "--images", home / "new", "--out", tmp_path / "s.csv"), ("explain", "--images", home)):
        said = run(words[0], "--detector", model, *words[1:])
        assert said.code == 1
        assert f"{model} holds no detector but a SeverityModel" in said.err
        assert "which gradiometer severity score reads" in said.err


def test_the_patient_is_looked_for_before_anything_is_scored(
    home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "scans", 3, 0, 5)
    names = sorted(path.name for path in (tmp_path / "scans").iterdir())
    (tmp_path / "scans" / names[-1]).rename(tmp_path / "scans" / "somebody.png")
    (tmp_path / "scans" / "broken.png").write_bytes(b"no scan")
    words = ("severity", "score", "--model", home / "run", "--images", tmp_path / "scans", "--out", tmp_path / "t.csv")
    with monkeypatch.context() as patch:
        patch.setattr(SeverityModel, "judge", lambda *_: pytest.fail("a scan was scored"))
        said = run(*words, "--patient", "(P[0-9]+)")
    assert said.code == 1
    assert "finds no patient in the name" in said.err
    assert "somebody.png" in said.err
    # What cannot be read is no scan of anybody.
    (tmp_path / "scans" / "somebody.png").unlink()
    said = run(*words, "--patient", "(P[0-9]+)")
    assert said.code == 0, said.err


def test_few_healthy_scans_train_in_batches_of_what_there_is(home: Path, run: Run, tmp_path: Path) -> None:
    words = ("severity", "train", "--healthy", home / "healthy", "--epochs", 1, "--out", tmp_path / "few")
    said = run(*words)
    assert said.code == 0, said.err
    assert "48 scans to train on are less than a batch of 64" in said.err
    model = SeverityModel.load(tmp_path / "few" / "severity.safetensors")
    assert model.detector.training["recipe"]["batch_size"] == 48
    again = run(*words)
    assert again.code == 0, again.err
    assert "epoch 1" not in again.err
    refused = run(*words[:-1], tmp_path / "asked", "--batch-size", 64)
    assert refused.code == 1
    assert "48 training images are less than one batch of 64" in refused.err
    tiled = run(*words[:-1], tmp_path / "tiles", "--tile", 8)
    assert tiled.code == 0, tiled.err
    assert "less than a batch" not in tiled.err


def test_another_preparation_in_the_same_folder_is_named(home: Path, run: Run) -> None:
    words = ("severity", "train", "--healthy", home / "healthy", "--batch-size", 16, "--epochs", 2)
    said = run(*words, "--out", home / "run", "--contrast", "standard", "--tile", 8)
    assert said.code == 1
    assert "holds a training with tile None instead of 8, contrast local instead of standard" in said.err


def test_scans_of_another_size_than_in_training_are_refused(home: Path, run: Run, tmp_path: Path) -> None:
    words = ("--model", home / "run", "--images", home / "new", "--out", tmp_path / "t.csv")
    said = run("severity", "score", *words, "--size", 8)
    assert said.code == 1
    assert "--size is 8, and the model was trained on scans of 16 x 16 pixels" in said.err
    assert run("severity", "score", *words, "--size", 16).code == 0
