"""What a benchmark leaves in its folder besides the records: tables in three forms, and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradiometer.benchmarks import tables
from gradiometer.benchmarks.differences import Difference
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.records import Record
from gradiometer.errors import DependencyError
from gradiometer.files import write_text
from gradiometer.reports import curves, figures


def write_tables(records: Sequence[Record], differences: Sequence[Difference], out: Path) -> None:
    """Write `tables.md` and `tables.tex`; the page has them as HTML.

    Args:
        records: Records of one benchmark.
        differences: Its paired differences.
        out: The folder.
    """
    for name, latex in (("tables.md", False), ("tables.tex", True)):
        write_text(out / name, tables.to_page(records, differences, latex=latex))


def write_figures(outcome: Outcome, out: Path, note: Callable[[str], None]) -> None:
    """Write the figures of the layers, of the curves and of transfer as SVG files of their own.

    Args:
        outcome: What a benchmark hands over.
        out: The folder.
        note: Told when there are none for want of a package.
    """
    try:
        made = {"layers.svg": curves.layers(outcome.profile, prefix="layers")}
        if outcome.scores:
            made["roc.svg"] = curves.roc(outcome.scores, prefix="roc")
        if outcome.scores and outcome.about_predictions:
            made["risk.svg"] = curves.risk(outcome.scores, prefix="risk")
        matrix = curves.transfer(outcome.records, prefix="transfer")
        if matrix is not None:
            made["transfer.svg"] = matrix
    except DependencyError as error:
        note(f"no figure was drawn: {error}")
        return
    for name, svg in made.items():
        write_text(out / name, figures.standalone(svg))
