"""The script that measures readings of more labels and of fewer layers runs, and its table comes from its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "benchmarks" / "extent.py", *arguments]
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=True)


def test_figures_and_table_of_a_tiny_network(tmp_path):
    printed = run("--networks", "tiny", "--batch", "4", "--repeats", "1", "--output", tmp_path).stdout
    document = json.loads((tmp_path / "extent.json").read_text())
    (section,) = document["sections"]
    rows = {row["name"]: row for row in section["rows"]}
    assert section["classes"] == 3
    assert rows["forward"]["to_forward"] == 1
    assert rows["forward"]["backward_parts"] == 0
    assert rows["floor"]["backward_parts"] == pytest.approx(1)
    assert {"contrast classes", "Gram matrices of all classes", "one label, 5.*"} <= set(rows)
    assert printed == (tmp_path / "extent.md").read_text()
    assert run("--render", tmp_path / "extent.json").stdout == printed
