"""The script that measures the instrument runs, and its table comes from its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "benchmarks" / "instrument.py", "--networks", "tiny", "--batch", "4", *arguments]
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=True)


def test_figures_and_table_of_a_tiny_network(tmp_path):
    once = ("--repeats", "1", "--slow-repeats", "1", "--no-memory", "--output", tmp_path)
    printed = run("--only", "floor", "training-step", "instrument", "loop", *once).stdout

    document = json.loads((tmp_path / "instrument.json").read_text())
    (section,) = document["sections"]
    rows = {row["name"]: row for row in section["rows"]}
    assert document["environment"]["versions"]["torch"]
    assert all(len(row["seconds"]) == 1 and row["reason"] == "" for row in rows.values())
    assert rows["training-step"]["ratios"]["to_training_step"] == 1
    assert rows["instrument"]["per_parameter"]
    assert rows["instrument"]["difference"] < 1e-4
    assert rows["instrument"]["ratios"]["to_floor"] == pytest.approx(
        rows["instrument"]["seconds"][0] / rows["floor"]["seconds"][0]
    )
    assert printed == (tmp_path / "instrument.md").read_text()
    assert "Gradiometer.squared_norms" in printed


def test_memory_of_one_contender():
    found = json.loads(run("--only", "training-step", "--memory").stdout)
    assert found["peak"] >= found["baseline"] > 0
    assert found["rise"] == found["peak"] - found["baseline"]
