"""Figures of many challenges at once."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from gradiometer.benchmarks.outcome import Profile, Scores
from gradiometer.errors import InputError
from gradiometer.reports import curves, files
from tests.benchmarks.making import make_record


def _titles(svg: str) -> tuple[str, str]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own output
    return root.find("title").text, root.find("desc").text


def test_curves_of_every_challenge(outcome):
    svg = curves.roc(outcome.scores, prefix="roc")
    title, _ = _titles(svg)
    assert "2 challenges" in title
    assert "MSP (known-only)" in svg
    with pytest.raises(InputError, match="one to 3 detectors, got 0"):
        curves.roc([], prefix="roc")


def test_risk_and_coverage_say_what_is_left_at_four_fifths():
    right, wrong = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])
    made = [Scores("MSP", "known-only", False, name, right, wrong, None) for name in ("as they are", "fog 3")]
    svg = curves.risk(made, prefix="risk")
    title, words = _titles(svg)
    assert title == "Risk against coverage of MSP (known-only) on 2 rows of predictions"
    assert words.count("MSP (known-only): 25.0 at 80 %") == 2  # one of four
    assert "fog 3" in svg
    with pytest.raises(InputError, match="one to 3 detectors, got 4"):
        curves.risk([replace(made[0], detector=name) for name in "abcd"], prefix="risk")


def test_layers_say_which_tensor_is_furthest(outcome):
    _, words = _titles(curves.layers(outcome.profile, prefix="layers"))
    assert words.count("furthest at") == 2
    with pytest.raises(InputError, match="at least one challenge"):
        curves.layers(Profile(("a",), outcome.profile.known[:, :1], {}), prefix="layers")


def test_the_matrix_of_transfer_shows_every_cell_and_names_the_lowest(outcome):
    assert curves.transfer(outcome.records, prefix="map") is None
    made = [make_record(protocol="transfer", trained_on=source, challenge=name) for source in "ab" for name in "cd"]
    svg = curves.transfer(made, prefix="map")
    title, words = _titles(svg)
    assert title == "Transfer of Purview between 2 challenges"
    value = f"{100 * made[0].metrics.auroc.value:.0f}"
    assert svg.count(f">{value}<") == 4
    assert f"The lowest is {value}" in words


def test_a_folder_gets_tables_in_two_forms_and_figures(outcome, tmp_path):
    told: list[str] = []
    files.write_tables(outcome.records, (), tmp_path)
    files.write_figures(outcome, tmp_path, told.append)
    assert "| --- |" in (tmp_path / "tables.md").read_text()
    assert "\\begin{tabular}" in (tmp_path / "tables.tex").read_text()
    assert {path.name for path in tmp_path.glob("*.svg")} == {"layers.svg", "roc.svg"}
    assert not told
