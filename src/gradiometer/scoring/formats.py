"""The formats of a file of scores. Each grows by whole rows, so that what is there is readable at any time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from gradiometer.errors import DependencyError, InputError
from gradiometer.files import replaced
from gradiometer.scoring.rows import COLUMNS, Row

_ROW_GROUP = 65_536
"""Rows of one row group of a Parquet file."""


class Format(Protocol):
    """How rows become bytes that are appended to a file, and how that file becomes the result."""

    def start(self) -> bytes:
        """What the file starts with."""
        ...

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The bytes of some rows."""
        ...

    def finish(self, partial: Path, out: Path) -> None:
        """Turn the complete file into the result, in one step."""
        ...


class JsonLines:
    """One JSON object a line, in UTF-8; a value that is missing is null."""

    def start(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The lines of some rows."""
        lines = (json.dumps(dict(zip(COLUMNS, row.values(), strict=True)), ensure_ascii=False) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode()

    def finish(self, partial: Path, out: Path) -> None:
        """Give the file its name."""
        partial.replace(out)


class Csv:
    """Comma-separated values with a header, in UTF-8; a value that is missing is empty, floats are exact."""

    def start(self) -> bytes:
        """The header."""
        return self._lines([COLUMNS])

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The lines of some rows."""
        return self._lines([[str(v).lower() if isinstance(v, bool) else v for v in row.values()] for row in rows])

    def finish(self, partial: Path, out: Path) -> None:
        """Give the file its name."""
        partial.replace(out)

    @staticmethod
    def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for row in rows:
            # A bare carriage return is not put in quotes by itself, and is read as the end of a line.
            bare = any(isinstance(value, str) and "\r" in value for value in row)
            (quoted if bare else writer).writerow(row)
        return text.getvalue().encode()


class Parquet:
    """An Apache Parquet table.

    A Parquet file is readable only once its footer is written, so rows are collected as an Arrow IPC stream, which
    grows by whole messages, and converted at the end.

    Raises:
        DependencyError: If pyarrow is missing.
    """

    def __init__(self) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise DependencyError(
                "Parquet needs pyarrow: install gradiometer[parquet], or write .csv or .jsonl"
            ) from error
        self._arrow = pyarrow
        text, number = pyarrow.string(), pyarrow.float64()
        types = (text, pyarrow.int64(), number, number, number, pyarrow.bool_(), text, text)
        self._schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))

    def start(self) -> bytes:
        """The message that holds the schema."""
        return bytes(self._schema.serialize())

    def encode(self, rows: Sequence[Row]) -> bytes:
        """The message that holds some rows."""
        columns = zip(*(row.values() for row in rows), strict=True)
        arrays = [self._arrow.array(values, kind) for values, kind in zip(columns, self._schema.types, strict=True)]
        return bytes(self._arrow.record_batch(arrays, schema=self._schema).serialize())

    def finish(self, partial: Path, out: Path) -> None:
        """Convert the stream, one row group in memory at a time."""
        with replaced(out) as new, self._arrow.parquet.ParquetWriter(new, self._schema) as writer:
            for table in self._groups(partial):
                writer.write_table(table)
        partial.unlink()

    def _groups(self, partial: Path) -> Iterator[Any]:
        waiting: list[Any] = []
        with partial.open("rb") as file:
            for batch in self._arrow.ipc.open_stream(file):
                waiting.append(batch)
                if sum(part.num_rows for part in waiting) >= _ROW_GROUP:
                    yield self._arrow.Table.from_batches(waiting)
                    waiting = []
        if waiting:
            yield self._arrow.Table.from_batches(waiting)


FORMATS: dict[str, type[Format]] = {".csv": Csv, ".jsonl": JsonLines, ".ndjson": JsonLines, ".parquet": Parquet}
"""The format of each suffix."""


def format_of(path: Path) -> Format:
    """The format that the suffix of a path asks for.

    Raises:
        InputError: If no format has this suffix.
        DependencyError: If the format needs a package that is not installed.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"{path} has the suffix {path.suffix!r}, which says no format; end it with one of {', '.join(FORMATS)}"
        )
    return kind()
