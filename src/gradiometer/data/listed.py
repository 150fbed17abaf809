"""Images that a table names, below a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NoReturn

from gradiometer.data.decode import Picture
from gradiometer.data.rows import Annotations, Row
from gradiometer.errors import InputError

_TWINS = {".tif": ".png", ".png": ".tif"}
"""Endings under which some releases hold the same scan, whatever their tables say."""


@dataclass(frozen=True)
class ListedRows:
    """The images that a table names, in its order and under the names that it gives them.

    Attributes:
        bases: Folders below which they are, looked into one after the other.
        names: Paths as the table has them. Leading folders that are not there are passed over, so that absolute paths
            of another machine are understood.
    """

    bases: tuple[Path, ...]
    names: tuple[str, ...]

    def count(self) -> int:
        """The number of names."""
        return len(self.names)

    def read(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on; a missing file is a row that cannot be decoded."""
        return (Row(name, self._picture(name)) for name in islice(self.names, start, None))

    def annotations(self) -> Annotations:
        """Nothing: the table knows."""
        return Annotations()

    def _picture(self, name: str) -> Picture:
        return find(self.bases, name) or self._missing

    def _missing(self) -> NoReturn:
        raise InputError(f"there is no such file below {' or '.join(map(str, self.bases))}")


def find(bases: Sequence[Path], name: str) -> Path | None:
    """The file that a table means, or None.

    Args:
        bases: Folders to look into.
        name: A path as the table has it: the longest end of it that is a file below one of the folders is meant.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "/"]
    for skipped in range(len(parts)):
        end = Path(*parts[skipped:])
        twin = _TWINS.get(end.suffix.lower())
        ends: tuple[Path, ...] = (end,) if twin is None else (end, end.with_suffix(twin))
        for base in bases:
            for path in (base / one for one in ends):
                if path.is_file():
                    return path
    return None
