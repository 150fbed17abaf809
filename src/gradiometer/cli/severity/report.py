"""`gradiometer severity report`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradiometer import given
from gradiometer.cli import sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.severity.score import load, load_for
from gradiometer.cli.sources import FORMS, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.data import Images
    from gradiometer.severity import Preparation, SeverityTable

_PORTION = 64
"""Scans that are read at once."""


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    model: str = option("file that severity train wrote, or the folder with it")
    table: str = option("table of the scans that severity score or severity label wrote")
    images: str = option("the scans of the table: what severity score was given")
    healthy: str = option(f"healthy scans that give the maps their scale, best not those of the training: {FORMS}")
    out: str = option("the HTML page")
    top: int = option("most scans to show", 24)
    probes: str | None = option("records that severity probe wrote, whose tables are shown on the page", None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Write the page."""
    from gradiometer.benchmarks import probes
    from gradiometer.reports import severities
    from gradiometer.severity import SeverityTable

    given.whole("top", options.top)
    model = load(options.model, options.device)
    table = SeverityTable.read(options.table)
    scans = _found(table, options, model.preparation)
    healthy = load_for(model, options.healthy, options)
    found = [] if options.probes is None else probes.read(Path(options.probes))
    if options.probes is not None and not found:
        raise InputError(f"there are no records in {options.probes}; give a file that severity probe wrote")
    shown = probes.tables(found)
    path = severities.write(model, scans, healthy, options.out, table=table, top=options.top, tables=shown)
    terminal.show(f"{path}: the {min(options.top, len(table)):,} most severe of {len(table):,} scans")


def _found(table: SeverityTable, options: Options, seen: Preparation) -> Images:
    """The scans that the page shows, read portion by portion so that a source of any size will do.

    They are called what the table calls them, and found by the ends of their names, because the folder may be typed in
    another way than it was for the table.
    """
    import torch

    from gradiometer import data
    from gradiometer.data import Images
    from gradiometer.data.tables import Names

    named = sources.parse_whole(options.images, "report reads")
    wanted = set(table.ranked().files[: options.top])
    known = Names(table.files, options.table)
    found: dict[str, tuple[str, torch.Tensor]] = {}
    batches = data.stream(
        named.source,
        split=named.split,
        root=options.root,
        size=options.size or seen.size,
        channels=options.channels or seen.channels,
        batch_size=_PORTION,
        download=options.download,
    )
    for batch in batches:
        for row, name in enumerate(batch.names):
            place = known.row_of(name)
            file = table.files[place] if place >= 0 else ""
            if file not in wanted:
                continue
            other = found[file][0] if file in found else None
            if other is not None and file not in (other, name):
                raise InputError(
                    f"{file!r} of {options.table} could be {other!r} or {name!r} of {options.images}; give the folder "
                    "that severity score was given"
                )
            if other != file:
                found[file] = (name, data.to_bytes(batch.images[row]))
        if len(found) == len(wanted) and all(file == name for file, (name, _) in found.items()):
            break
    missing = sorted(wanted - {*found})
    if missing:
        raise InputError(f"{options.images} has no scan {missing[0]!r}, which {options.table} ranks high")
    return replace(Images.of(torch.stack([pixels for _, pixels in found.values()])), names=tuple(found))


COMMAND = Command(
    name="report",
    summary="a page of scans by severity, with maps",
    purpose="""
        Write one HTML page of the most severe scans of a table, each with maps of where it is far from healthy scans.
        When the table holds grades, the page also shows scores against grades, with the rank correlation and its
        interval. The page loads nothing from elsewhere.
    """,
    examples="""
        # the two dozen most severe scans of a folder
        gradiometer severity report --model runs/severity --table scores.parquet --images scans/ \\
            --healthy other-healthy/ --out severity.html

        # graded scans of a split
        gradiometer severity report --model runs/severity --table scores.csv --images retina.npz:test \\
            --healthy healthy/ --top 60 --out retina.html
    """,
    options=Options,
    run=run,
)
