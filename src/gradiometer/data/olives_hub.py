"""The mirror of OLIVES on Hugging Face, `gOLIVES/OLIVES_Dataset`: scans and labels in Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradiometer.data.cohort import Cohort
from gradiometer.data.images import Images
from gradiometer.data.olives import named
from gradiometer.data.parquet import bytes_of, opened
from gradiometer.data.rows import Annotations, Row
from gradiometer.data.sources import Size, check_form, collect
from gradiometer.errors import DependencyError, InputError

HUB = "gOLIVES/OLIVES_Dataset"
"""Its name there."""

CONFIGURATION = "disease_classification"
"""The configuration that has the names of all biomarkers."""

_ROWS = 64
_PATIENT = "Patient_ID"
_CODES = {"B1": "IRHRF", "B2": "PAVF", "B3": "FAVF", "B4": "IRF", "B5": "DME"}
"""Columns of the configuration `biomarker_detection`, which numbers the biomarkers as the VIP Cup 2023 did."""


@dataclass(frozen=True)
class ShardRows:
    """The scans of several Parquet files, one after the other.

    Attributes:
        paths: The files.
    """

    paths: tuple[Path, ...]

    def count(self) -> int:
        """The number of rows."""
        return sum(_length(path) for path in self.paths)

    def read(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on, named by file and row."""
        number = 0
        for path in self.paths:
            row = 0
            if number + (length := _length(path)) <= start:
                number += length
                continue
            with opened(path) as table:
                for batch in table.iter_batches(batch_size=_ROWS, columns=["Image"]):
                    for value in batch.column(0):
                        if number >= start:
                            yield Row(f"{path.name}#{row}", bytes_of(value.as_py()))
                        number, row = number + 1, row + 1

    def annotations(self) -> Annotations:
        """None of their own; the columns say more."""
        return Annotations()

    def columns(self) -> dict[str, list[Any]]:
        """All columns but the scans."""
        found: dict[str, list[Any]] = {}
        for path in self.paths:
            with opened(path) as table:
                names = [name for name in table.schema_arrow.names if name != "Image"]
                for name, values in table.read(columns=names).to_pydict().items():
                    found.setdefault(name, []).extend(values)
        return found


def shards(folder: Path, split: str | None) -> tuple[Path, ...]:
    """The Parquet files of a copy of the mirror; none when the folder is no such copy.

    Args:
        folder: Such a copy, or one configuration of it.
        split: `train` or `test`; `train` when None.
    """
    for base in (folder / CONFIGURATION, folder / "biomarker_detection", folder):
        found = tuple(sorted(base.glob(f"{split or 'train'}-*.parquet")))
        if found:
            return found
    return ()


def load_hub(
    folder: Path,
    split: str | None = None,
    *,
    labelled: bool = True,
    size: Size | None = None,
    channels: int | None = None,
    limit: int | None = None,
) -> Cohort:
    """Scans of a copy of the mirror, with their biomarkers, clinical labels and patients.

    The mirror names no files, so that a row is called by its shard and number.

    Args:
        folder: Such a copy, or one configuration of it.
        split: `train` or `test`; `train` when None.
        labelled: Only scans with biomarkers.
        size: As for `load`.
        channels: As for `load`.
        limit: As for `load`, counted before scans without biomarkers are left out.

    Raises:
        InputError: The folder is no such copy, or no scan can be read.
        DependencyError: pyarrow is not installed.
    """
    paths = shards(folder, split)
    if not paths:
        raise InputError(f"{folder} holds no shards such as {CONFIGURATION}/{split or 'train'}-00000-of-00032.parquet")
    rows = ShardRows(paths)
    columns = rows.columns()
    images = collect(rows, str(folder), check_form(size, channels), channels, limit)
    cohort = named(_joined(images, rows, columns))
    if not labelled:
        return cohort
    known = [~np.isnan(cohort.columns[name]) for name in ("IRF", "DME") if name in cohort.columns]
    if not known:
        raise InputError(f"{folder} has no biomarkers; its columns are {', '.join(columns)}")
    return cohort.select(np.logical_and.reduce(known))


def fetch(root: Path) -> Path:
    """Fetch the mirror into a folder; 29 GB.

    Raises:
        DependencyError: huggingface-hub is not installed.
        InputError: It cannot be fetched.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise DependencyError(
            f"fetching {HUB} needs huggingface-hub: install it with the extra `olives`, pip install "
            "'gradiometer[olives]'"
        ) from error
    try:
        return Path(
            snapshot_download(
                HUB, repo_type="dataset", local_dir=root / "OLIVES_Dataset", allow_patterns=[f"{CONFIGURATION}/*"]
            )
        )
    except OSError as error:
        raise InputError(f"{HUB} could not be fetched into {root} ({error}); fetch it by hand") from error


def _joined(images: Images, rows: ShardRows, columns: dict[str, list[Any]]) -> Cohort:
    """Images with the columns of their rows; some may be missing among the images."""
    places = {row.name: number for number, row in enumerate(_names(rows))}
    index = np.array([places[name] for name in images.names])
    patients = columns.get(_PATIENT)
    cohort = Cohort.of(images, None if patients is None else [_identifier(patients[row]) for row in index])
    found = {
        _CODES.get(name, name): np.array([np.nan if value is None else float(value) for value in values])[index]
        for name, values in columns.items()
        if name != _PATIENT and all(value is None or isinstance(value, int | float) for value in values)
    }
    return Cohort(cohort.images, found, cohort.patients)


def _names(rows: ShardRows) -> Iterator[Row]:
    """Names of all rows, without their scans."""
    for path in rows.paths:
        for row in range(_length(path)):
            yield Row(f"{path.name}#{row}", None)


def _identifier(value: Any) -> str:
    return "" if value is None or value != value else str(int(value))


def _length(path: Path) -> int:
    with opened(path) as table:
        return int(table.metadata.num_rows)
