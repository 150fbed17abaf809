"""Scoring a source of scans into a table of severities."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradiometer.data import Failure
from gradiometer.data.decode import Picture, decode
from gradiometer.data.ordinal import grades_of
from gradiometer.data.rows import Rows
from gradiometer.data.sources import open_rows
from gradiometer.errors import InputError
from gradiometer.scoring.run import Summary, score
from gradiometer.severity import SeverityModel, SeverityTable
from gradiometer.severity.table import check_target

if TYPE_CHECKING:
    from gradiometer.data.sources import Size, Source


@dataclass(frozen=True, eq=False)
class Scored:
    """What a run found.

    Attributes:
        table: The table, as written.
        failures: Scans that could not be scored, with the reason.
        summary: Counts and time.
    """

    table: SeverityTable
    failures: tuple[Failure, ...]
    summary: Summary


def score_severity(
    model: SeverityModel,
    source: Source,
    out: str | Path,
    *,
    patient: str | None = None,
    grades: bool = False,
    size: Size | None = None,
    channels: int | None = None,
    split: str | None = None,
    root: Source | None = None,
    download: bool = False,
    restart: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score all scans of a source into one table, a portion at a time.

    An interrupted run continues after the last scan that was scored when it is called again, and gives the same table.

    Args:
        model: A calibrated model.
        source: What `gradiometer.data.stream` takes: a folder, an .npz or Parquet file, a name.
        out: The table; `.parquet` or `.csv`. Until it is complete, its rows are beside it in hidden files.
        patient: Regular expression that finds the patient in the name of a scan: its first group, or all of the match.
        grades: Whether the labels of the source are grades. Names of classes must begin with whole numbers, or be in an
            order of the source's own: folders are numbered in alphabetical order.
        size: As for `stream`.
        channels: As for `stream`.
        split: As for `stream`.
        root: As for `stream`.
        download: As for `stream`.
        restart: Whether to begin again instead of continuing an interrupted run.
        overwrite: Whether to replace a table that is there, once the new one is complete.
        progress: Called with the scans that are done and those in all.

    Returns:
        The table, and what could not be scored.

    Raises:
        InputError: If the source is unusable, the table exists, no scan could be scored, the name of one does not say
            the patient, or grades are wanted and labels are none.
        ArtefactError: If a file cannot be written.
        NotFittedError: If the model is not calibrated.
    """
    out = Path(out)
    check_target(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; choose another file, or overwrite it")
    finder = _finder(patient)
    known = None
    if finder is not None or grades:
        described = open_rows(source, split=split, root=root, download=download)
        if finder is not None:
            _check_names(described, finder)
        known = _grades(described, str(source)) if grades else None
    rows_file = out.with_name(f".{out.name}.rows.jsonl")
    settings: dict[str, Any] = {"size": size, "channels": channels, "split": split, "root": root, "download": download}
    made: list[tuple[SeverityTable | None, tuple[Failure, ...]]] = []

    def deliver(file: Path) -> None:
        # Only a line feed ends a row: names may hold other signs that Unicode calls ends of lines.
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        failures = tuple(Failure(row["name"], row["error"]) for row in rows if row["error"] is not None)
        scored = [number for number, row in enumerate(rows) if row["error"] is None]
        table = None
        if scored:
            names = tuple(rows[number]["name"] for number in scored)
            scores = np.array([rows[number]["score"] for number in scored])
            table = SeverityTable(
                files=names,
                scores=scores,
                percentiles=model.percentile(scores),
                patients=None if finder is None else tuple(finder(name) for name in names),
                grades=None if known is None else known[scored],
            )
            table.write(out)
        made.append((table, failures))

    summary = score(
        model, source, rows_file, restart=restart, overwrite=True, progress=progress, deliver=deliver, **settings
    )
    rows_file.unlink()
    ((table, failures),) = made
    if table is None:
        raise InputError(f"no scan of {source} could be scored; the first is {failures[0].name}: {failures[0].reason}")
    return Scored(table, failures, summary)


def _grades(rows: Rows, source: str) -> NDArray[np.int64]:
    notes = rows.annotations()
    if notes.labels is None:
        raise InputError(f"{source} has no labels that could be grades; leave grades out")
    return grades_of(notes.labels, notes.classes, source)


def _check_names(rows: Rows, finder: Callable[[str], str]) -> None:
    """Notice before hours of scoring that the name of a scan does not say the patient.

    Rows that cannot be read are not scored, and their names are nobody's.
    """
    for row in rows.read():
        try:
            finder(row.name)
        except InputError:
            if _readable(row.picture):
                raise


def _readable(picture: Picture) -> bool:
    try:
        decode(picture)
    except InputError:
        return False
    return True


def _finder(pattern: str | None) -> Callable[[str], str] | None:
    """A function from the name of a scan to its patient."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"patient is {pattern!r}, which is no regular expression ({error})") from error

    def find(name: str) -> str:
        match = compiled.search(name)
        found = None if match is None else match[1 if compiled.groups else 0]
        if not found:
            raise InputError(f"{pattern!r} finds no patient in the name {name!r}; correct it, or leave it out")
        return found

    return find
