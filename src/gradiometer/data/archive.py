"""An .npz archive in the layout of MedMNIST: `train_images`, `train_labels`, `test_images`, ... read in pieces."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gradiometer.data.rows import Annotations, Row, numbered, one_label_each
from gradiometer.errors import InputError

_PIECE = 1 << 22
"""Bytes that are read at once."""

DAMAGED = (EOFError, ValueError, SyntaxError, tokenize.TokenError)
"""What NumPy raises for an array that is damaged: it reads the header as a literal of Python."""


@dataclass(frozen=True)
class ArchiveRows:
    """The images of one split of an archive.

    Attributes:
        path: The archive.
        prefix: What the split's arrays start with: `train_`, or nothing for an archive of one split without a name.
        shape: (N, H, W) or (N, H, W, C) with C 1 or 3.
        dtype: A type of whole numbers; other types than uint8 are checked to hold 0 to 255.
    """

    path: Path
    prefix: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def count(self) -> int:
        """The number of images."""
        return self.shape[0]

    def read(self, start: int = 0) -> Iterator[Row]:
        """The images from number `start` on, a few MiB in memory at a time.

        Raises:
            InputError: If the archive ends early or is broken inside.
        """
        key = f"{self.prefix}images"
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, _PIECE // size)
        with _member(self.path, key) as (file, _, _):
            _pass_over(file, start * size)
            for first in range(start, self.count(), step):
                rows = min(step, self.count() - first)
                data = file.read(rows * size)
                if len(data) != rows * size:
                    raise InputError(f"{self.path} ends inside {key}, after image {first}; the file is truncated")
                piece = self._eight_bit(np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:]), first)
                for row, pixels in enumerate(piece, first):
                    yield Row(f"{self.path.name}#{row}", pixels)

    def annotations(self) -> Annotations:
        """Labels, class names, and groups from `SPLIT_groups`, or `SPLIT_tracks` which are numbered in each class.

        Raises:
            InputError: If an annotation does not fit the images.
        """
        with _reading(self.path), np.load(self.path, allow_pickle=False) as arrays:
            names = arrays.files
            labels, highest = None, -1
            for key in (name for name in names if name == "labels" or name.endswith("_labels")):
                values = _array(self.path, arrays, key)
                if key == f"{self.prefix}labels":
                    labels = one_label_each(values, self.count(), f"{key} of {self.path}")
                if values.size and values.dtype.kind in "iu":
                    highest = max(highest, int(values.max()))
            classes: tuple[str, ...] = ()
            if "class_names" in names:
                classes = tuple(str(name) for name in _array(self.path, arrays, "class_names"))
            elif labels is not None:
                # As many as the whole archive knows, so that all splits agree.
                classes = numbered(highest, str(self.path))
            return Annotations(labels, classes, self._groups(arrays, labels))

    def _groups(self, arrays: Any, labels: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        for kind in ("groups", "tracks"):
            key = f"{self.prefix}{kind}"
            if key not in arrays.files:
                continue
            values = one_label_each(_array(self.path, arrays, key), self.count(), f"{key} of {self.path}")
            if kind == "groups" or labels is None:
                return values
            return np.unique(np.stack([labels, values]), axis=1, return_inverse=True)[1].astype(np.int64).reshape(-1)
        return None

    def _eight_bit(self, piece: NDArray[Any], first: int) -> NDArray[np.uint8]:
        if self.dtype != np.uint8:
            bad = ((piece < 0) | (piece > 255)).reshape(len(piece), -1).any(axis=1)
            if bad.any():
                image = piece[bad][0]
                raise InputError(
                    f"image {first + int(bad.argmax())} of {self.path} has pixels from {image.min()} to {image.max()}; "
                    "scale them to 0...255 and store uint8"
                )
            piece = piece.astype(np.uint8)
        return piece[..., 0] if piece.ndim == 4 and piece.shape[-1] == 1 else piece


def open_archive(path: Path, split: str | None) -> ArchiveRows:
    """The images of one split of an archive.

    Args:
        path: An existing .npz file.
        split: `train`, `val`, `test` or whatever the archive has; None when it has only one.

    Raises:
        InputError: If the file is no archive, the split is not there or must be chosen, or the images have a type,
            shape or range that is not that of images.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
    starts = [key.removesuffix("images") for key in keys if key == "images" or key.endswith("_images")]
    prefixes = {start.removesuffix("_"): start for start in starts}
    if not prefixes:
        raise InputError(
            f"{path} has no array of images; it holds {', '.join(keys) or 'nothing'}; the layout is "
            "train_images, train_labels, test_images, ... with uint8 (N, H, W) or (N, H, W, 3)"
        )
    there = ", ".join(name or "one without a name" for name in prefixes)
    if split is None and len(prefixes) > 1:
        named = next(name for name in prefixes if name)
        raise InputError(f"{path} has the splits {there}; choose one with split={named!r}")
    if split is not None and split not in prefixes:
        raise InputError(f"{path} has no split {split!r}; the splits that are there: {there}")
    prefix = prefixes[split] if split is not None else next(iter(prefixes.values()))
    key = f"{prefix}images"
    with _member(path, key) as (_, shape, dtype):
        pass
    rows = ArchiveRows(path, prefix, shape, dtype)
    _check(rows, key)
    return rows


def _check(rows: ArchiveRows, key: str) -> None:
    where, shape = f"{key} of {rows.path}", rows.shape
    if rows.dtype.kind == "f":
        with _reading(rows.path), np.load(rows.path, allow_pickle=False) as arrays:
            values = _array(rows.path, arrays, key)
        broken = ~np.isfinite(values)
        if broken.any():
            first = int(np.argwhere(broken)[0, 0]) if values.ndim else 0
            raise InputError(
                f"{where} has NaN or infinite pixels ({int(broken.sum())}, the first in image {first}); "
                "remove those images or correct them, and store uint8"
            )
        reach = f"pixels from {values.min():g} to {values.max():g}" if values.size else "no pixels"
        raise InputError(f"{where} has type {rows.dtype} with {reach}; scale them to 0...255, round and store uint8")
    if rows.dtype.kind not in "iu":
        raise InputError(f"{where} has type {rows.dtype}; store pixels 0...255 as uint8")
    if len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] in (1, 3):
        raise InputError(f"{where} has shape {shape}: the channels come second; move them to the end, (N, H, W, C)")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] not in (1, 3)):
        raise InputError(f"{where} has shape {shape}; images are (N, H, W) for grey or (N, H, W, 3) for colour")
    if 0 in shape:
        raise InputError(f"{where} has shape {shape}: no samples; give at least one image")


@contextmanager
def _member(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """An array of the archive, opened behind its header: the stream of its values, its shape and type."""
    with _reading(path, key), zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if fortran:
            raise InputError(
                f"{key} of {path} is stored column by column; save numpy.ascontiguousarray of it, so that it "
                "can be read in pieces"
            )
        yield file, shape, dtype


def _array(path: Path, arrays: Any, key: str) -> NDArray[Any]:
    """An array of the archive, as a whole."""
    with _reading(path, key):
        found = arrays[key]
        if not isinstance(found, np.ndarray):  # NumPy hands out the bytes of what does not begin like an array
            raise ValueError("it does not begin like one")  # noqa: TRY004
        return found


@contextmanager
def _reading(path: Path, key: str = "") -> Iterator[None]:
    """Errors of broken archives as ours, with the array in question if it is known."""
    try:
        yield
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, RuntimeError, OSError, *DAMAGED) as error:
        what = f"the array {key!r} of {path}" if key else f"{path}"
        raise InputError(
            f"{what} cannot be read as {'a plain array' if key else 'an .npz archive of plain arrays'} ({error}); it "
            "may be truncated or damaged, or hold Python objects: write the file again with numpy.savez"
        ) from error


def _pass_over(file: IO[bytes], size: int) -> None:
    while size > 0:
        read = len(file.read(min(size, _PIECE)))
        if not read:
            return
        size -= read
