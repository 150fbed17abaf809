"""Reading a large source batch by batch: bounded memory, bad rows reported, and resumable at any row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradiometer import given
from gradiometer.data.archive import ArchiveRows
from gradiometer.data.decode import CHANNELS, Form, form_of
from gradiometer.data.images import Failure, to_unit
from gradiometer.data.levels import LevelRows
from gradiometer.data.parquet import ParquetRows
from gradiometer.data.rows import Rows
from gradiometer.data.sources import Size, Source, check_form, nothing_readable, open_rows
from gradiometer.errors import InputError

_ODD = 100
"""Images of another shape at the start after which it is the source that has another shape, and not some of it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive rows of a source.

    Attributes:
        images: float32 (B, K, H, W) in [0, 1]: the rows that can be read, in order. B may be 0.
        names: B row names.
        failures: The rows that cannot be read, in order.
        start: Number of the first row in the source. Failed rows count.
    """

    images: Tensor
    names: tuple[str, ...]
    failures: tuple[Failure, ...]
    start: int

    @property
    def stop(self) -> int:
        """Number of the row after the last one: the `skip` with which a later stream goes on."""
        return self.start + len(self.names) + len(self.failures)


def stream(
    source: Source,
    *,
    batch_size: int,
    size: Size | None = None,
    channels: int | None = None,
    shape: tuple[int, int, int] | None = None,
    split: str | None = None,
    root: Source | None = None,
    skip: int = 0,
    download: bool = False,
) -> Iterator[Batch]:
    """Read a source batch by batch.

    Every image is brought to one size and number of channels. A row that cannot be read (a corrupt or truncated file,
    zero bytes, not an image, or another size while none was asked for) becomes a `Failure`; the others go on.

    Args:
        source: As for `load`.
        batch_size: Rows in a batch.
        size: Height and width in pixels, one number for a square. Without it, those of the first readable image of
            the source, whatever is skipped.
        channels: 1 for grey, 3 for colour. Without it, those of `shape`, or of the first readable image.
        shape: Channels, height and width that the images should have. Their size is then that of the first readable
            image that has it, so that an odd one before it is a failure like any other; when none of the first hundred
            has, that of the first readable image again.
        split: As for `load`.
        root: As for `load`.
        skip: Rows to leave out at the start, such as the `stop` of the last batch that was dealt with.
        download: As for `load`.

    Returns:
        An iterator of `Batch`. Errors of the source and of the arguments are raised before the first one.

    Raises:
        InputError: If there is no such source, no image of it can be read, or an argument is out of range.
        DependencyError: If the source needs a package that is not installed.

    Example:
        >>> [batch.stop for batch in stream("digits", batch_size=1000)]
        [1000, 1797]
    """
    given.whole("batch_size", batch_size)
    given.whole("skip", skip, least=0)
    extent = check_form(size, channels)
    rows = open_rows(source, split=split, root=root, download=download)
    if channels is None and shape is not None and shape[0] in CHANNELS:
        channels = shape[0]
    form = _form(str(source), rows, extent, channels, shape).noticing(str(source))
    return _batches(rows, form, batch_size, skip)


def count(source: Source, *, split: str | None = None, root: Source | None = None, download: bool = False) -> int:
    """The number of rows of a source, unreadable ones included; nothing is decoded.

    Args:
        source: As for `load`.
        split: As for `load`.
        root: As for `load`.
        download: As for `load`.

    Raises:
        InputError: If there is no such source, or it holds no images.
        DependencyError: If the source needs a package that is not installed.

    Example:
        >>> count("digits")
        1797
    """
    return open_rows(source, split=split, root=root, download=download).count()


def states(
    source: Source, *, split: str | None = None, root: Source | None = None, skip: int = 0, download: bool = False
) -> Iterator[str]:
    """What tells the files of a source from others that have taken their names since: size and time of writing.

    Args:
        source: As for `load`.
        split: As for `load`.
        root: As for `load`.
        skip: Rows to leave out at the start.
        download: As for `load`.

    Yields:
        One text for each row of a folder, in the order of `stream`; one in all for a source in one file, whatever is
        skipped; none for rows that lie in no file that is known here.

    Raises:
        InputError: If there is no such source, or it holds no images.
        DependencyError: If the source needs a package that is not installed.
    """
    rows = open_rows(source, split=split, root=root, download=download)
    if isinstance(rows, ArchiveRows | ParquetRows | LevelRows):
        yield _state(rows.path)
        return
    for row in rows.read(skip):
        if not isinstance(row.picture, Path):
            return
        yield _state(row.picture)


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return f"{path.name}: nothing"
    return f"{path.name}: {found.st_size} bytes, written at {found.st_mtime_ns}"


def _form(
    source: str,
    rows: Rows,
    size: tuple[int, int] | None,
    channels: int | None,
    shape: tuple[int, int, int] | None,
) -> Form:
    if size is not None and channels is not None:
        return Form(channels, *size, resize=True)
    failures: list[Failure] = []
    odd: list[Form] = []
    for row in rows.read():
        try:
            form = form_of(row.picture, size, channels)
        except InputError as error:
            failures.append(Failure(row.name, str(error)))
            continue
        if shape is None or (form.channels, form.height, form.width) == shape:
            return form
        odd.append(form)
        if len(odd) == _ODD:
            break
    if odd:
        return odd[0]
    raise nothing_readable(source, failures)


def _batches(rows: Rows, form: Form, batch_size: int, skip: int) -> Iterator[Batch]:
    reader = rows.read(skip)
    start = skip
    while part := list(islice(reader, batch_size)):
        pixels = np.empty((len(part), form.channels, form.height, form.width), np.uint8)
        names: list[str] = []
        failures: list[Failure] = []
        for row in part:
            try:
                pixels[len(names)] = form.apply(row.picture)
            except InputError as error:
                failures.append(Failure(row.name, str(error)))
            else:
                names.append(row.name)
        yield Batch(to_unit(torch.from_numpy(pixels[: len(names)])), tuple(names), tuple(failures), start)
        start += len(part)
