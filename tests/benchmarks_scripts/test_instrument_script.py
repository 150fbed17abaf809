"""The script that measures the instrument runs, continues, and its table and figure come from its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from measuring.record import Record

FOLDER = Path(__file__).parents[2] / "benchmarks"

TINY = ("--networks", "tiny", "--batch", "4", "--repeats", "1", "--slow-repeats", "1", "--no-memory")
OURS = ("--only", "floor", "training-step", "instrument", "loop")


def test_figures_and_table_of_a_tiny_network(script, tmp_path):
    printed, _ = script("instrument", *TINY, *OURS, "--output", tmp_path)

    document = json.loads((tmp_path / "instrument.json").read_text())
    (section,) = document["sections"]
    rows = {row["name"]: row for row in section["rows"]}
    assert section["environment"]["versions"]["torch"]
    assert len(section["environment"]["source"]) == 12
    assert all(len(row["seconds"]) == 1 and row["reason"] == "" for row in rows.values())
    assert rows["training-step"]["ratios"]["to_training_step"] == 1
    assert rows["instrument"]["per_parameter"]
    assert rows["instrument"]["difference"] < 1e-4
    assert rows["instrument"]["ratios"]["to_floor"] == pytest.approx(
        rows["instrument"]["seconds"][0] / rows["floor"]["seconds"][0]
    )
    assert printed == (tmp_path / "instrument.md").read_text()
    assert "Gradiometer.squared_norms" in printed


def test_a_run_continues_an_earlier_one(script, tmp_path):
    def took():
        return [section["took"] for section in json.loads((tmp_path / "instrument.json").read_text())["sections"]]

    few = ("--only", "training-step", "instrument", "--output", tmp_path)
    script("instrument", *TINY, *few)
    first = took()
    _, said = script("instrument", *TINY, *few, "--batch", 4, 2)
    assert took()[:1] == first
    assert len(took()) == 2
    assert "batch 2" in said
    assert "batch 4" not in said
    script("instrument", *TINY, *few, "--again")
    assert len(took()) == 2
    assert took()[:1] != first


def test_what_was_measured_otherwise_is_not_finished(tmp_path):
    record = Record("figures", 1, lambda document: f"{len(document['sections'])} sections\n", tmp_path)
    about = {"date": "today", "load_average": [0.0], "source": "abc"}, {"seed": 0}
    record.put({"size": 1, "environment": about[0], "settings": about[1]}, {"size": 1})
    again = Record("figures", 1, lambda document: "", tmp_path)
    assert again.finished({"size": 1}, {**about[0], "date": "tomorrow", "load_average": [3.0]}, about[1])
    assert not again.finished({"size": 2}, *about)
    assert not again.finished({"size": 1}, {**about[0], "source": "abd"}, about[1])
    assert not again.finished({"size": 1}, about[0], {"seed": 1})
    assert not Record("figures", 2, lambda document: "", tmp_path).finished({"size": 1}, *about)
    assert (tmp_path / "figures.md").read_text() == "1 sections\n"


def test_the_figure_is_rendered_from_the_record(script, tmp_path):
    script("instrument", *TINY, *OURS, "--output", tmp_path / "measured")
    record = tmp_path / "measured" / "instrument.json"
    printed, _ = script("instrument", "--render", record, "--output", tmp_path / "rendered")

    drawn = (tmp_path / "rendered" / "instrument.svg").read_text()
    assert drawn == (tmp_path / "measured" / "instrument.svg").read_text()
    assert printed == (tmp_path / "measured" / "instrument.md").read_text()
    texts = {text.text for text in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}  # noqa: S314
    assert {"a tiny convolutional network", "Gradiometer", "loop over single samples"} <= texts
    assert "torch.func.vmap" not in texts


def test_a_contender_that_cannot_run_keeps_its_row(script):
    text, _ = script(
        "instrument", *TINY, "--networks", "gru", "--only", "training-step", "instrument", "captum", "vmap"
    )
    assert "did not run" in text
    assert text.count("– |") > 10


def test_memory_of_one_contender():
    # In a process of its own: the peak of this one holds whatever other tests left.
    command = [sys.executable, FOLDER / "instrument.py", "--memory", *TINY[:2], "--only", "training-step"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in (*command, "--batch", 8, 4)], env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["size"] for found in lines] == [4, 8]
    for found in lines:
        assert found["peak"] >= found["baseline"] > 0
        assert found["rise"] == found["peak"] - found["baseline"]
        assert found["seconds"] > 0
