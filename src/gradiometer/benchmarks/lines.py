"""Files of JSON lines: one record in each, none lost when a run is interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from gradiometer.errors import ArtefactError
from gradiometer.files import replaced


class Keyed(Protocol):
    """A record that a later one of the same key replaces."""

    @property
    def key(self) -> tuple[str, ...]:
        """What a later record replaces."""
        ...


_Record = TypeVar("_Record", bound=Keyed)


def append(path: Path, line: str) -> None:
    """Add one line to a file and see it onto the disk.

    Where a crash has left a part of a line at the end of the file, the new one begins behind it.

    Args:
        path: The file; it and its folder are made when they are not there.
        line: The line, without its end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        start = "" if _at_line_start(file) else "\n"
        file.write(f"{start}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, lines: Iterable[str]) -> None:
    """Write lines as a new file, in one step.

    Args:
        path: The file; its folder is made when it is not there.
        lines: The lines, without their ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as new:
        new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def cut_short(line: str) -> bool:
    """Whether a line is only the beginning of a record, as a crash in the middle of `append` leaves it."""
    return line.startswith("{") and not line.endswith("}")


def latest(path: Path, make: Callable[[dict[str, Any]], _Record], *, what: str, schema: int) -> list[_Record]:
    """All records of a file, the last one of each key; none when there is no file.

    A line that was cut short is passed over: its record was never complete.

    Args:
        path: The file.
        make: Makes a record of the entries of a line.
        what: What a record is, for the error.
        schema: Newest layout that is known.

    Raises:
        ArtefactError: A line is no record, or one of a newer schema.
    """
    found: dict[tuple[str, ...], _Record] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if cut_short(line):
            continue
        try:
            entries = json.loads(line)
            if entries["schema"] > schema:
                raise ArtefactError(f"{path}, line {number} has schema {entries['schema']}; upgrade gradiometer")
            record = make(entries)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"{path}, line {number} is no {what} ({error}); delete this line") from error
        found[record.key] = record
    return list(found.values())


def _at_line_start(file: BinaryIO) -> bool:
    """Whether a file is empty or its last line is whole."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read() == b"\n"
