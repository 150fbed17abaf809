"""`gradiometer severity label`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the command: those of `gradiometer.severity.severity_labels`."""

    table: str = option("table that severity score wrote, .parquet or .csv", in_place=True)
    bins: int = option("number of severity labels, 2 to 10,000 and at most one for each scan")
    out: str = option("the table with its labels, ending in .parquet or .csv")
    way: Literal["equal-frequency", "equal-width"] = option(
        "bins with equally many scans, or bins that are equally wide", "equal-frequency"
    )
    overwrite: bool = option("replace the table if it is there", False)


def run(options: Options, terminal: Terminal) -> None:
    """Label and say how many scans the bins hold."""
    import numpy as np

    from gradiometer import severity
    from gradiometer.severity.table import check_target

    out = Path(options.out)
    check_target(out)
    if out.exists() and not options.overwrite:
        raise InputError(f"{out} exists already; choose another file, or add --overwrite")
    table = severity.SeverityTable.read(options.table).labelled(options.bins, options.way)
    table.write(out)
    assert table.labels is not None
    counts = np.bincount(table.labels, minlength=options.bins)
    terminal.show(
        f"{out}: {len(table):,} scans in {options.bins:,} bins of {counts.min():,} to {counts.max():,} ({options.way})"
    )
    if not counts.min():
        terminal.note(f"{int((counts == 0).sum()):,} of the bins are empty")


COMMAND = Command(
    name="label",
    summary="make severity labels of scores",
    purpose="""
        Cut the scores of a table into bins. The number of its bin is the severity label of a scan, from 0 for the least
        severe, and is written beside everything else that the table holds. Many fine labels suit contrastive training;
        a few coarse ones suit people.
    """,
    examples="""
        # five thousand labels, with equally many scans each
        gradiometer severity label --table scores.parquet --bins 5000 --out labels.parquet

        # four steps that are equally wide, for a spreadsheet
        gradiometer severity label --table scores.csv --bins 4 --way equal-width --out steps.csv
    """,
    options=Options,
    run=run,
)
