"""A Parquet table of encoded images: column `image` as bytes or {bytes, path}, optionally `label`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradiometer.data.rows import Annotations, Row, numbered
from gradiometer.errors import DependencyError, InputError

_ROWS = 64
"""Rows that are read at once: encoded images of a few MiB each are still some hundred MiB."""


@dataclass(frozen=True)
class ParquetRows:
    """The rows of one table.

    Attributes:
        path: The file.
    """

    path: Path

    def count(self) -> int:
        """The number of rows."""
        with opened(self.path) as table:
            return int(table.metadata.num_rows)

    def read(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on; row groups before it are not touched."""
        with opened(self.path) as table:
            group, row = 0, 0
            while group < table.num_row_groups and row + table.metadata.row_group(group).num_rows <= start:
                row += table.metadata.row_group(group).num_rows
                group += 1
            groups = list(range(group, table.num_row_groups))
            if not groups:  # releases of PyArrow differ in what none of them means
                return
            for batch in table.iter_batches(batch_size=_ROWS, row_groups=groups, columns=["image"]):
                for value in batch.column(0):
                    if row >= start:
                        yield Row(f"{self.path.name}#{row}", bytes_of(value.as_py()))
                    row += 1

    def annotations(self) -> Annotations:
        """The column `label`: class numbers, or class names which are numbered in alphabetical order.

        Raises:
            InputError: If a label is missing or is neither a whole number from 0 nor text.
        """
        with opened(self.path) as table:
            if "label" not in table.schema_arrow.names:
                return Annotations()
            values = table.read(columns=["label"]).column("label").to_pylist()
        if None in values:
            raise InputError(f"{self.path}: row {values.index(None)} has no label; label all rows, or drop the column")
        if all(isinstance(value, str) for value in values):
            classes, numbers = np.unique(np.array(values), return_inverse=True)
            return Annotations(numbers.astype(np.int64), tuple(str(name) for name in classes))
        for row, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(
                    f"{self.path}: the label of row {row} is {value!r}; labels are whole numbers from 0, or class names"
                )
        labels = np.array(values, dtype=np.int64)
        return Annotations(labels, numbered(int(labels.max()), str(self.path)))


def open_parquet(path: Path, split: str | None) -> ParquetRows:
    """The rows of a table.

    Args:
        path: An existing .parquet file.
        split: Must be None; a table is one split.

    Raises:
        InputError: If the file is not Parquet, has no rows, or no column of encoded images.
        DependencyError: If pyarrow is not installed.
    """
    if split is not None:
        raise InputError(f"{path} is one table without splits, but split={split!r} was asked for; leave split out")
    with opened(path) as table:
        schema = table.schema_arrow
        if "image" not in schema.names:
            raise InputError(
                f"{path} has no column 'image'; its columns are {', '.join(schema.names)}; "
                "store encoded images (PNG, JPEG) as bytes or {bytes, path} there"
            )
        kind = str(schema.field("image").type)
        if kind not in ("binary", "large_binary") and not (kind.startswith("struct<") and "bytes: " in kind):
            raise InputError(f"the column 'image' of {path} has type {kind}; store bytes, or a struct {{bytes, path}}")
        if table.metadata.num_rows == 0:
            raise InputError(f"{path} has no rows; give at least one image")
    return ParquetRows(path)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file as pyarrow sees it, which has no types to check against; its errors as ours."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DependencyError(
            f"reading {path} needs pyarrow: install it with the extra `parquet`, pip install 'gradiometer[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(path) as table:
            yield table
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error}); it may be truncated, write it again") from error


def bytes_of(value: Any) -> bytes | None:
    """The encoded image of a cell, plain or in a struct {bytes, path}; None where there is none."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None
