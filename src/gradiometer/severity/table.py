"""The table of severities: one row for each scan, as Parquet or CSV, read back as it was written."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradiometer.errors import ArtefactError, DependencyError, InputError
from gradiometer.files import write_bytes
from gradiometer.severity.labels import Floats, Integers, Way, checked_grades, checked_scores, severity_labels

SUFFIXES = (".parquet", ".csv")
"""Endings of the files that a table can be written to."""

_REQUIRED: dict[str, Callable[[str], Any]] = {"file": str, "score": float, "percentile": float}
_OPTIONAL: dict[str, Callable[[str], Any]] = {"patient": str, "label": int, "grade": int}
_PARSERS = {**_REQUIRED, **_OPTIONAL}


@dataclass(frozen=True, eq=False)
class SeverityTable:
    """Severities of scans, by file and patient.

    Attributes:
        files: Name of each scan (N,), all different.
        scores: (N,) float64, higher = more severe.
        percentiles: Share of healthy scans that score less (N,) float64 in [0, 1].
        patients: Whose scan it is (N,), or None when that is not known.
        labels: Severity labels (N,) int64, or None before `labelled`.
        grades: Grades by a physician (N,) int64 from 0, or None when they are not known.

    Raises:
        InputError: Columns of different lengths, a file that occurs twice, or a value that is out of range.

    Example:
        >>> table = SeverityTable(("a.png", "b.png", "c.png"), np.array([0.3, 0.1, 0.2]), np.array([0.9, 0.0, 0.5]))
        >>> table.labelled(3).by_file()
        {'a.png': 2, 'b.png': 0, 'c.png': 1}
    """

    files: tuple[str, ...]
    scores: Floats
    percentiles: Floats
    patients: tuple[str, ...] | None = None
    labels: Integers | None = None
    grades: Integers | None = None

    def __post_init__(self) -> None:
        """Check what the class promises."""
        if not self.files:
            raise InputError("a table of severities needs one scan or more")
        _check_names("file", self.files)
        if len(set(self.files)) != len(self.files):
            twice = Counter(self.files).most_common(1)[0][0]
            raise InputError(f"the file {twice!r} occurs twice; each scan has one row")
        if self.patients is not None:
            _check_names("patient", self.patients)
        for name in ("patients", "scores", "percentiles", "labels", "grades"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self):
                raise InputError(f"{len(self)} files but {len(column)} {name}; give one for each file")
        object.__setattr__(self, "scores", checked_scores(self.scores))
        object.__setattr__(self, "percentiles", checked_scores(self.percentiles))
        if self.percentiles.min() < 0 or self.percentiles.max() > 1:
            raise InputError(
                f"percentiles are shares in [0, 1], got {self.percentiles.min()} to {self.percentiles.max()}"
            )
        for name in ("labels", "grades"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked_grades(getattr(self, name), len(self)))

    def __len__(self) -> int:
        """Number of scans N."""
        return len(self.files)

    def labelled(self, bins: int, way: Way = "equal-frequency") -> SeverityTable:
        """The table with severity labels.

        Args:
            bins: Number of bins, 2 to 10,000 and at most N.
            way: As for `severity_labels`; equal scores are ordered by the names of their files.

        Raises:
            InputError: As for `severity_labels`.
        """
        return replace(self, labels=severity_labels(self.scores, bins, way, keys=self.files))

    def by_file(self) -> dict[str, int]:
        """Severity label of each file.

        Raises:
            InputError: There are no labels yet.
        """
        if self.labels is None:
            raise InputError("the table has no severity labels yet; make them with labelled(bins)")
        return dict(zip(self.files, self.labels.tolist(), strict=True))

    def ranked(self) -> SeverityTable:
        """The table from the most to the least severe scan; equal scores by the names of their files."""
        return self.select(np.lexsort((np.array(self.files, dtype=object).astype(str), -self.scores)))

    def select(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> SeverityTable:
        """Some rows, in the order in which they are given."""
        at = np.asarray(rows, dtype=np.int64)
        return SeverityTable(
            tuple(self.files[row] for row in at),
            self.scores[at],
            self.percentiles[at],
            None if self.patients is None else tuple(self.patients[row] for row in at),
            None if self.labels is None else self.labels[at],
            None if self.grades is None else self.grades[at],
        )

    def columns(self) -> dict[str, list[Any]]:
        """The columns that there are, by name, as plain values."""
        found: dict[str, list[Any]] = {"file": list(self.files)}
        if self.patients is not None:
            found["patient"] = list(self.patients)
        found |= {"score": self.scores.tolist(), "percentile": self.percentiles.tolist()}
        for name, column in (("label", self.labels), ("grade", self.grades)):
            if column is not None:
                found[name] = column.tolist()
        return found

    def write(self, path: str | Path) -> None:
        """Write the table in one step; what was at the path stays until the new file is complete.

        Args:
            path: Ending in `.parquet` or `.csv`.

        Raises:
            ArtefactError: The file cannot be written.
            DependencyError: Parquet without pyarrow.
            InputError: Another ending, or no such folder.
        """
        target = Path(path)
        check_target(target)
        content = _parquet(self.columns()) if target.suffix == ".parquet" else _csv(self.columns())
        write_bytes(target, content)

    @classmethod
    def read(cls, path: str | Path) -> SeverityTable:
        """Read a table back, value for value.

        Args:
            path: A file that `write` wrote, or one of yours with the columns file, score and percentile, and if you
                have them patient, label and grade.

        Raises:
            ArtefactError: The file is no such table.
            DependencyError: Parquet without pyarrow.
            InputError: There is no such file, or its values cannot be used.
        """
        source = Path(path)
        if not source.is_file():
            raise InputError(f"there is no file {source}; give a table that severity score wrote")
        if source.suffix not in SUFFIXES:
            raise InputError(f"{source} must end in {' or '.join(SUFFIXES)}")
        found = _read_parquet(source) if source.suffix == ".parquet" else _read_csv(source)
        missing = [name for name in _REQUIRED if name not in found]
        if missing:
            raise ArtefactError(f"{source} has no column {missing[0]!r}; its columns are {', '.join(found) or 'none'}")
        try:
            return cls(
                tuple(found["file"]),
                np.array(found["score"], np.float64),
                np.array(found["percentile"], np.float64),
                tuple(found["patient"]) if "patient" in found else None,
                np.array(found["label"], np.int64) if "label" in found else None,
                np.array(found["grade"], np.int64) if "grade" in found else None,
            )
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{source}: {error}") from error


def check_target(path: Path) -> None:
    """Refuse a path that no table can be written to, before there is a table.

    Raises:
        InputError: Another ending, or no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}; make it first")


def _check_names(what: str, names: Sequence[Any]) -> None:
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name or any("\ud800" <= sign <= "\udfff" for sign in name):
            raise InputError(f"the {what} of row {row} is {name!r}; names are text of Unicode, and not empty")


def _csv(columns: Mapping[str, Sequence[Any]]) -> bytes:
    text = io.StringIO()
    # Text in quotes whatever is in it: a bare carriage return would be read as the end of a line.
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(columns)
    # repr of a float is the shortest text that is read back as the same number.
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _read_csv(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtefactError(f"{path} cannot be read as CSV ({error}); write it again") from error
    head = rows[0] if rows else []
    found: dict[str, list[Any]] = {name: [] for name in head if name in _PARSERS}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise ArtefactError(f"{path}, line {number} has {len(row)} values for {len(head)} columns")
        for name, value in zip(head, row, strict=True):
            if name in _PARSERS:
                found[name].append(_parsed(path, number, name, value))
    return found


def _parsed(path: Path, number: int, name: str, value: str) -> Any:
    try:
        return _PARSERS[name](value)
    except ValueError as error:
        raise ArtefactError(f"{path}, line {number}: {name} is {value!r}, which is no number") from error


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyError("Parquet needs pyarrow: install gradiometer[parquet], or use .csv") from error
    return pyarrow


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    arrow = _arrow()
    kinds: dict[Any, Any] = {str: arrow.string(), float: arrow.float64(), int: arrow.int64()}
    table = arrow.table({name: arrow.array(values, kinds[_PARSERS[name]]) for name, values in columns.items()})
    sink = io.BytesIO()
    arrow.parquet.write_table(table, sink)
    return sink.getvalue()


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    arrow = _arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name in _PARSERS]
            table = file.read(columns=names)
    except (arrow.ArrowException, OSError) as error:
        raise ArtefactError(f"{path} cannot be read as Parquet ({error}); write it again") from error
    return {name: table.column(name).to_pylist() for name in names}
