"""Tables about images: a CSV or Parquet file with one row for each, found again by the name of the image."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradiometer.data.ordinal import Words
from gradiometer.data.parquet import opened
from gradiometer.errors import InputError

KEYS = ("file", "name", "path", "image", "File_Path", "Path (Trial/Arm/Folder/Visit/Eye/Image Name)")
"""Columns that name the image, in the order in which they are looked for; upper and lower case are alike."""

PATIENTS = ("patient", "patient_id")
"""Columns that name the patient, looked for in the same way."""

_MISSING = ("", "nan", "none", "null", "na", "n/a")


@dataclass(frozen=True, eq=False)
class Table:
    """What a file says about images.

    Attributes:
        path: The file.
        names: What it calls the images, one for each row, each once.
        columns: All other columns as text, "" where there is nothing.
        patients: The patient of each row, or None when there is no such column; "" where it is missing.
    """

    path: str
    names: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    patients: tuple[str, ...] | None

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as numbers.

        Args:
            name: The column.

        Returns:
            float64 (R,), NaN where there is nothing. Text is numbered in alphabetical order; `words` says so.

        Raises:
            InputError: There is no such column.
        """
        words = self.words(name)
        if words is None:
            return np.array([_number(text) for text in self.columns[name]])
        order = {text: number for number, text in enumerate(words.texts)}
        return np.array([order.get(text, math.nan) for text in self.columns[name]], dtype=np.float64)

    def words(self, name: str) -> Words | None:
        """What the numbers of a column stand for, or None where all of its cells are numbers or empty.

        Args:
            name: The column.

        Raises:
            InputError: There is no such column.
        """
        if name not in self.columns:
            raise InputError(f"{self.path} has no column {name!r}; it has {', '.join(self.columns)}")
        cells = self.columns[name]
        others = [row for row, text in enumerate(cells) if not _is_number(text)]
        if not others:
            return None
        there = sum(text.lower() not in _MISSING for text in cells)
        first = others[0]
        return Words(
            tuple(sorted({text for text in cells if text.lower() not in _MISSING})),
            f"{cells[first]!r} in the row of {self.names[first]!r} of {self.path} is no number",
            "correct it, or leave it empty where the value is not known",
            mostly_numbers=2 * len(others) < there,
        )

    def rows_of(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The row of each image, by its name.

        Names are the same as `Names` has it: a table may say `/Trial/02/OD/7.tif` where the image was read from
        `data/OLIVES/Trial/02/OD/7.tif`.

        Args:
            names: Names of images, such as those of `Images`.

        Returns:
            int64: the row of each, -1 where the table has none.

        Raises:
            InputError: A name could be that of several rows.
        """
        known = Names(self.names, self.path)
        return np.array([known.row_of(name) for name in names], dtype=np.int64)


class Names:
    """Names of images, found again however their folder was typed.

    A name is the same as another if both are equal, or if one is the end of the other, folder by folder. The very same
    name goes first. `..` at the start of a name is no folder of it.

    Args:
        names: The names, each once.
        path: The file that has them, for messages.

    Example:
        >>> Names(["scans/OD/7.png", "scans/OS/7.png"], "t.csv").row_of("/home/anna/scans/OS/7.png")
        1
    """

    def __init__(self, names: Sequence[str], path: str) -> None:
        self.names, self.path = names, path
        self._exact = {name: row for row, name in enumerate(names)}
        self._ends: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            self._ends.setdefault(_parts(name)[-1], []).append(row)

    def row_of(self, name: str) -> int:
        """The number of the name that is the same, -1 when there is none.

        Raises:
            InputError: Several are.
        """
        if name in self._exact:
            return self._exact[name]
        parts = _parts(name)
        fits = []
        for row in self._ends.get(parts[-1], []):
            other = _parts(self.names[row])
            shared = min(len(parts), len(other))
            if parts[-shared:] == other[-shared:]:
                fits.append((shared, row))
        if not fits:
            return -1
        longest = max(shared for shared, _ in fits)
        best = [row for shared, row in fits if shared == longest]
        if len(best) > 1:
            raise InputError(
                f"{name!r} could be {self.names[best[0]]!r} or {self.names[best[1]]!r} of {self.path}; name images "
                "with enough of their folders"
            )
        return best[0]


def read_table(path: Path, key: str | None = None, patient: str | None = None) -> Table:
    """Read a table about images.

    Args:
        path: A .csv or .parquet file.
        key: The column that names the image; the first of `KEYS` that is there when None.
        patient: The column that names the patient; the first of `PATIENTS` that is there when None.

    Returns:
        The table. Rows that repeat another word for word are left out.

    Raises:
        InputError: The file is no table, lacks a column, or says two things about one image.
        DependencyError: The file is Parquet and pyarrow is not installed.
    """
    if not path.is_file():
        raise InputError(f"there is no table {path}; check the path")
    reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is no table that can be read; give a .csv or .parquet file (save .xlsx as .csv)")
    columns = reader(path)
    name = _found(path, columns, key, KEYS, "--key")
    if name is None:
        raise InputError(
            f"{path} has no column that names the image; its columns are {', '.join(columns)}; name one of them"
        )
    owner = _found(path, columns, patient, PATIENTS, "--patient")
    return _once(path, columns, name, owner)


def _once(path: Path, columns: dict[str, list[str]], name: str, owner: str | None) -> Table:
    """The table without rows that are there twice."""
    first: dict[str, int] = {}
    for row, value in enumerate(columns[name]):
        earlier = first.setdefault(value, row)
        if earlier != row and any(column[earlier] != column[row] for column in columns.values()):
            raise InputError(
                f"{path} says two things about {value!r}, in rows {earlier + 1} and {row + 1}; correct one"
            )
    kept = [row for value, row in first.items() if value]
    if not kept:
        raise InputError(f"{path} names no image in its column {name!r}; give at least one")
    chosen = {title: tuple(column[row] for row in kept) for title, column in columns.items()}
    patients = None if owner is None else tuple(_plain(value) for value in chosen[owner])
    others = {title: column for title, column in chosen.items() if title != name}
    return Table(str(path), chosen[name], others, patients)


def _read_csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); save it as UTF-8 with commas") from error
    if len(rows) < 2:
        raise InputError(f"{path} has no rows; the first line names the columns, the others are images")
    titles = [title.strip() for title in rows[0]]
    # Released tables have a title too many, or lines that end early: what is not there is missing.
    filled = [row + [""] * (len(titles) - len(row)) for row in rows[1:] if row]
    return {title: [row[at].strip() for row in filled] for at, title in enumerate(titles)}


def _read_parquet(path: Path) -> dict[str, list[str]]:
    with opened(path) as table:
        found = table.read().to_pydict()
    return {title: [_text(value) for value in column] for title, column in found.items()}


def _found(path: Path, columns: Mapping[str, Any], asked: str | None, usual: Sequence[str], flag: str) -> str | None:
    if asked is not None:
        if asked not in columns:
            raise InputError(f"{path} has no column {asked!r}; its columns are {', '.join(columns)} ({flag})")
        return asked
    lower = {title.lower(): title for title in reversed(list(columns))}
    return next((lower[title.lower()] for title in usual if title.lower() in lower), None)


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _number(text: str) -> float:
    if text.lower() in _MISSING:
        return math.nan
    number = float(text)
    if not math.isfinite(number) or "_" in text:  # as Python writes numbers, and nobody else
        raise ValueError(f"{text!r} is no number of a table")
    return number


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _plain(text: str) -> str:
    """An identifier as text: 232.0, as spreadsheets write it, is 232."""
    if text.lower() in _MISSING:
        return ""
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def _parts(name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(dropwhile(lambda part: part in ("/", ".."), parts)) or ("",)
