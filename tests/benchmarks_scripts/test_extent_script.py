"""What more labels and fewer layers cost: the table comes from the figures."""

import json

import pytest


def test_figures_of_a_tiny_network(script, tmp_path):
    printed, _ = script("extent", "--networks", "tiny", "--batch", 4, "--repeats", 1, "--output", tmp_path)

    (section,) = json.loads((tmp_path / "extent.json").read_text())["sections"]
    medians = {row["name"]: row["median"] for row in section["rows"]}
    last = section["rows"][-1]
    assert {"forward", "floor", "one label", "contrast classes", "Gram matrices of all classes"} <= set(medians)
    assert last["to_forward"] == pytest.approx(last["median"] / medians["forward"])
    assert last["backward_parts"] == pytest.approx(
        (last["median"] - medians["forward"]) / (medians["floor"] - medians["forward"])
    )
    assert printed == (tmp_path / "extent.md").read_text()
