"""Tables in the documentation are what their records say."""

from __future__ import annotations

import runpy
from pathlib import Path

from gradiometer.benchmarks import records, severity
from gradiometer.benchmarks.gradcon import measures, tables

ROOT = Path(__file__).parents[1]


def test_the_tables_of_the_documentation_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_tables.py"))
    for path in script["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert "<!-- table: " in page
        assert script["rendered"](page) == page, f"{path.name}: run docs/render_tables.py"


def test_the_tables_of_gradcon_are_rendered_from_records() -> None:
    folder = ROOT / "docs" / "results" / "gradcon"
    found = records.read(folder / "records.jsonl")
    page = tables.to_page(found, measures.read(folder / "measures.jsonl"))
    assert (folder / "tables.md").read_text(encoding="utf-8") == page


def test_the_tables_of_severity_are_rendered_from_records() -> None:
    folder = ROOT / "docs" / "results" / "severity"
    assert (folder / "tables.md").read_text(encoding="utf-8") == severity.render(folder)
