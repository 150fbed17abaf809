"""Tables in the documentation are what their records say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from gradiometer.benchmarks import differences, records, severity
from gradiometer.benchmarks import tables as lecture
from gradiometer.benchmarks.gradcon import measures, tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def test_the_tables_of_the_documentation_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_tables.py"))
    for path in script["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert "<!-- table: " in page
        assert script["rendered"](page) == page, f"{path.name}: run docs/render_tables.py"


@pytest.mark.parametrize(
    "folder", sorted(str(path.parent.relative_to(RESULTS)) for path in RESULTS.rglob("records.jsonl.gz"))
)
def test_the_tables_of_the_lecture_are_rendered_from_records(folder: str) -> None:
    found = records.read(RESULTS / folder / "records.jsonl.gz")
    path = RESULTS / folder / "differences.jsonl.gz"
    page = lecture.to_page(found, differences.read(path) if path.exists() else ())
    assert (RESULTS / folder / "tables.md").read_text(encoding="utf-8") == page


def test_the_cards_of_the_networks_are_rendered_from_training_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_models.py"))
    assert (RESULTS / "models" / "README.md").read_text(encoding="utf-8") == script["rendered"]()


def test_the_pages_of_the_suite_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_suite.py"))
    for name in script["ABOUT"]:
        assert (RESULTS / name / "README.md").read_text(encoding="utf-8") == script["rendered"](name)


@pytest.mark.parametrize("name", ["gradcon", "gradcon-long"])
def test_the_tables_of_gradcon_are_rendered_from_records(name: str) -> None:
    folder = RESULTS / name
    found = records.read(folder / "records.jsonl")
    measured = measures.read(folder / "measures.jsonl") if (folder / "measures.jsonl").exists() else []
    page = tables.to_page(found, measured)
    assert (folder / "tables.md").read_text(encoding="utf-8") == page


def test_the_tables_of_severity_are_rendered_from_records() -> None:
    folder = ROOT / "docs" / "results" / "severity"
    assert (folder / "tables.md").read_text(encoding="utf-8") == severity.render(folder)
