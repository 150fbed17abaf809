"""The demonstration end to end, with few images and little training."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest

from gradiometer.benchmarks import demo, matched, records, tables
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.detectors import DecisionNetwork
from gradiometer.reports import page

PICTURES = ["letters", "photographs", "textures"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path, set[str]]:
    path = tmp_path_factory.mktemp("demo") / "report.html"
    settings = demo.DemoSettings(out=path, images=40, epochs=2, draws=50, limit=240)
    told = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=5))
        outcome = demo.run(settings, progress=lambda what, done, total: told.add(what))
    return outcome, path, told


def test_the_table_is_full(run):
    outcome, path, told = run
    attack = ["FGSM attack"] if importlib.util.find_spec("foolbox") else []
    table = tables.arrange(outcome.records)
    assert [name for name, _ in table.rows] == [*PICTURES, "noise", "blur", *attack, "mean"]
    assert len(table.columns) == 8
    assert all(cell.text != "-" for _, cells in table.rows for cell in cells)
    assert tuple(records.read(path.with_suffix(".jsonl"))) == outcome.records
    assert told >= {"training the network", "reading digits", "reading letters"}
    assert {record.kind for record in outcome.records} == {"null", "detection"}


def test_the_page_shows_the_figures_of_the_table(run):
    outcome, path, _ = run
    text = page.write(outcome, path).read_text()
    for name, cells in tables.arrange(outcome.records).rows:
        assert name in text
        assert all(cell.interval in text for cell in cells)
    assert outcome.steps[0] in text


def test_without_its_package_the_attack_is_left_out_and_the_reader_told(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "foolbox" else found(name, *rest)
    )
    monkeypatch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=2))
    outcome = demo.run(demo.DemoSettings(out=None, images=40, epochs=1, draws=20, limit=240))
    assert not list(tmp_path.iterdir())
    assert "FGSM attack" not in {record.challenge for record in outcome.records}
    assert "gradiometer[attacks]" in outcome.steps[-1]
