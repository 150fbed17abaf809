"""From healthy scans to biomarkers, by the commands, on a miniature of OLIVES in its released layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradiometer import data
from gradiometer.benchmarks import probes
from gradiometer.cli import main
from gradiometer.severity import SeverityModel, SeverityTable
from tests.cli.conftest import Run
from tests.data import miniatures

FIVE = ("IRF", "DME", "IRHRF", "FAVF", "PAVF")
CONFIG = """
healthy: {healthy}
images: {olives}:pool1
train: {olives}:train1
test: {olives}:test1
targets: [IRF, DME, IRHRF, FAVF, PAVF]
out: {out}
columns: [CST, Eye_ID]
bins: 10
heads: joint
encoder: resnet8
epochs: 1
batch_size: 8
severity_epochs: 1
draws: 30
top: 3
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OLIVES, and healthy scans from elsewhere."""
    folder = tmp_path_factory.mktemp("scans")
    miniatures.olives(folder / "OLIVES")
    (folder / "healthy").mkdir()
    rng = np.random.default_rng(0)
    for number in range(90):
        miniatures.scan(rng, np.zeros(5)).save(folder / "healthy" / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def made(scans: Path) -> Path:
    """What `severity run` made."""
    out = scans / "run"
    config = scans / "olives.yaml"
    config.write_text(CONFIG.format(healthy=scans / "healthy", olives=scans / "OLIVES", out=out), encoding="utf-8")
    assert main(["severity", "run", "--config", str(config), "--allow-shared"]) == 0
    return out


def test_one_command_reads_five_biomarkers_beside_baselines(made: Path) -> None:
    found = probes.read(made / "probe" / "probes.jsonl")
    assert {record.target for record in found} == set(FIVE)
    assert [record.encoder for record in found[::5]] == ["severity", "simclr", "random weights"]
    assert {record.heads for record in found} == {"joint"}
    assert {name for record in found for name in record.figures} == {"accuracy", "F1", "AUROC", "average precision"}


def test_the_patient_on_both_sides_of_split_1_is_in_every_record(made: Path) -> None:
    found = probes.read(made / "probe" / "probes.jsonl")
    assert {record.shared_patients for record in found} == {("203",)}
    assert {record.patientwise for record in found} == {False}
    assert {record.encoder: record.pretraining_shared for record in found} == {
        "severity": 1,
        "simclr": 1,
        "random weights": 0,
    }
    assert "split with 1 patient on both sides" in (made / "probe" / "probes.md").read_text()


def test_the_encoder_learnt_from_severity_and_clinical_labels(made: Path) -> None:
    record = json.loads((made / "severity" / "record.json").read_text())
    assert {name: column["labels"] for name, column in record["columns"].items()} == {
        "label": 10,
        "CST": 6,
        "Eye_ID": 5,
    }
    assert json.loads((made / "simclr" / "record.json").read_text())["columns"] == {}


def test_the_page_ranks_scans_and_shows_the_probes(made: Path) -> None:
    page = (made / "severity.html").read_text()
    assert page.count('class="three"') == 3
    assert "What frozen encoders know" in page
    assert "random weights" in page


def test_a_blank_scan_among_those_to_learn_from_is_left_out(scans: Path, run: Run, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    rng = np.random.default_rng(1)
    for number in range(12):
        scan = miniatures.scan(rng, np.zeros(5))
        scan.save(pool / f"{number:02}.png")
    Image.new(scan.mode, scan.size).save(pool / "03-black.png")
    config = tmp_path / "run.yaml"
    text = CONFIG.format(healthy=scans / "healthy", olives=scans / "OLIVES", out=tmp_path / "out")
    config.write_text(text.replace("columns: [CST, Eye_ID]\n", ""), encoding="utf-8")
    words = ("--images", pool, "--channels", 1, "--baseline", "false", "--allow-shared")
    said = run("severity", "run", "--config", config, *words)
    assert said.code == 0, said.err
    assert "left out, 1 of 13 scans" in said.err.replace("\n", " ")
    files = SeverityTable.read(tmp_path / "out" / "labels.csv").files
    assert [Path(file).name for file in files] == [f"{number:02}.png" for number in range(12)]


def test_a_second_run_continues_from_what_is_there(made: Path, scans: Path, run: Run) -> None:
    before = (made / "severity" / "encoder.safetensors").read_bytes()
    said = run("severity", "run", "--config", scans / "olives.yaml", "--allow-shared")
    assert said.code == 0
    assert "epoch" not in said.err
    assert (made / "severity" / "encoder.safetensors").read_bytes() == before


def test_a_split_that_shares_a_patient_is_refused_unless_asked_for(made: Path, scans: Path, run: Run) -> None:
    words = ("severity", "probe", "--encoders", made / "severity", "--targets", "IRF", "--out", scans / "refused")
    said = run(*words, "--train", f"{scans / 'OLIVES'}:train1", "--test", f"{scans / 'OLIVES'}:test1")
    assert said.code == 1
    assert "1 of 3 test patients are in the training images too (203)" in said.err
    assert not (scans / "refused").exists()


def test_without_a_test_set_scans_are_divided_by_patient(made: Path, scans: Path, run: Run) -> None:
    out = scans / "divided"
    said = run(
        *("severity", "probe", "--encoders", made / "severity", made / "simclr", "--targets", "IRF", "--draws", 20),
        *("--train", f"{scans / 'OLIVES'}:labelled", "--untrained", "false", "--out", out),
    )
    assert said.code == 0
    found = probes.read(out / "probes.jsonl")
    assert [record.encoder for record in found] == ["severity", "simclr"]
    assert all(record.patientwise for record in found)


def test_encoders_of_one_name_are_called_by_their_paths(made: Path, scans: Path, run: Run) -> None:
    out = scans / "alike"
    files = [made / name / "encoder.safetensors" for name in ("severity", "simclr")]
    said = run(
        *("severity", "probe", "--encoders", *files, made / "simclr", "--targets", "IRF", "--draws", 20),
        *("--train", f"{scans / 'OLIVES'}:labelled", "--untrained", "false", "--out", out),
    )
    assert said.code == 0, said.err
    found = probes.read(out / "probes.jsonl")
    assert [record.encoder for record in found] == [*map(str, files), "simclr"]


def test_pretrain_takes_a_table_of_labels(made: Path, scans: Path, run: Run) -> None:
    said = run(
        *("severity", "pretrain", "--images", f"{scans / 'OLIVES'}:pool1", "--table", made / "labels.csv"),
        *("--columns", "label", "image", "--encoder", "resnet8", "--epochs", 1, "--batch-size", 8),
        *("--out", scans / "encoder"),
    )
    assert said.code == 0
    assert "pre-training resnet8 on 30 images of 5 patients: label + image" in said.err
    assert "label: 10 different labels on 30 images" in said.err


def test_columns_that_are_not_there_are_named(scans: Path, run: Run) -> None:
    said = run(
        *("severity", "pretrain", "--images", f"{scans / 'OLIVES'}:pool1", "--columns", "severity"),
        *("--encoder", "resnet8", "--batch-size", 8, "--out", scans / "none"),
    )
    assert said.code == 1
    assert "no column 'severity'" in said.err
    assert "BCVA" in said.err


def test_scans_are_resized_once_for_their_scores(scans: Path, run: Run) -> None:
    out = scans / "resized"
    olives = scans / "OLIVES"
    said = run(
        *("severity", "run", "--healthy", scans / "healthy", "--limit", 40, "--images", f"{olives}:pool1"),
        *("--train", f"{olives}:train1", "--test", f"{olives}:test1", "--targets", "IRF", "--heads", "joint"),
        *("--encoder", "resnet8", "--epochs", 1, "--batch-size", 8, "--severity-epochs", 1, "--draws", 20, "--top", 2),
        *("--bins", 5, "--size", 20, "--severity-size", 13, "--baseline", "false", "--allow-shared", "--out", out),
    )
    assert said.code == 0, said.err
    assert "32 scans to train on are less than a batch of 64" in said.err
    model = SeverityModel.load(out / "model" / "severity.safetensors")
    assert model.preparation.size == (13, 13)
    pool = data.load_cohort(olives, split="pool1", size=13)
    table = SeverityTable.read(out / "labels.csv")
    assert table.files == pool.images.names
    np.testing.assert_allclose(table.scores, model.score(pool.images), rtol=1e-5)
