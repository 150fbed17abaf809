"""Corrupted versions of one data set at five levels, as bare arrays in the layout of CIFAR-10-C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradiometer.data.archive import DAMAGED
from gradiometer.data.rows import Annotations, Row, numbered, one_label_each
from gradiometer.errors import InputError

LEVELS = 5
_SPLITS = tuple(f"level{level}" for level in range(1, LEVELS + 1))


@dataclass(frozen=True)
class LevelRows:
    """The images of one corruption, at all levels or at one.

    Attributes:
        path: The .npy file of the corruption.
        pixels: uint8 (N, H, W, 3) or (N, H, W): N / 5 originals at level 1, the same at level 2, and so on. Read from
            the disk when it is needed.
        labels: int64 (N,).
        start: The first row that is read.
        stop: The row after the last one.
    """

    path: Path
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    start: int
    stop: int

    def count(self) -> int:
        """The number of images."""
        return self.stop - self.start

    def read(self, start: int = 0) -> Iterator[Row]:
        """The images from number `start` on, named by their row in the file."""
        rows = range(self.start + start, self.stop)
        return (Row(f"{self.path.name}#{row}", np.array(self.pixels[row])) for row in rows)

    def annotations(self) -> Annotations:
        """Labels, and the original of each row as its base image: the row modulo the number of originals."""
        rows = np.arange(self.start, self.stop, dtype=np.int64)
        classes = numbered(int(self.labels.max()), str(self.path))
        return Annotations(self.labels[rows], classes, rows % (len(self.pixels) // LEVELS))


def open_levels(path: Path, split: str | None) -> LevelRows:
    """The images of one corruption.

    The base image of a row is its number among the originals, which is the row of the test set it was made from: a
    split keeps the levels of one image together, and tells which original belongs to it.

    Args:
        path: An existing .npy file, with `labels.npy` beside it.
        split: `level1` to `level5`, or None for all.

    Raises:
        InputError: If there is no such split, the labels are missing, or an array has another type or shape.
    """
    if split is not None and split not in _SPLITS:
        raise InputError(f"{path} has no split {split!r}; its splits are {', '.join(_SPLITS)}")
    beside = path.with_name("labels.npy")
    if not beside.is_file():
        raise InputError(
            f"there are no labels beside {path}; the layout is one .npy for each corruption and labels.npy"
        )
    pixels = _array(path)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[-1] in (1, 3))):
        raise InputError(
            f"{path} has type {pixels.dtype} and shape {pixels.shape}; images are uint8 (N, H, W) or (N, H, W, 3)"
        )
    if len(pixels) == 0 or len(pixels) % LEVELS:
        raise InputError(f"{path} has {len(pixels)} images, which is not the same number at each of {LEVELS} levels")
    labels = np.asarray(_array(beside))
    if labels.ndim == 1 and len(labels) * LEVELS == len(pixels):  # those of the originals, once
        labels = np.tile(labels, LEVELS)
    known = one_label_each(labels, len(pixels), str(beside))
    originals = len(pixels) // LEVELS
    first = 0 if split is None else _SPLITS.index(split) * originals
    last = len(pixels) if split is None else first + originals
    return LevelRows(path, pixels[..., 0] if pixels.shape[3:] == (1,) else pixels, known, first, last)


def corruptions_in(folder: Path) -> list[str]:
    """The corruptions that a folder of this layout holds; empty for another folder."""
    if not (folder / "labels.npy").is_file():
        return []
    return sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels")


def _array(path: Path) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, *DAMAGED) as error:
        raise InputError(
            f"{path} cannot be read as a plain array ({error}); it may be truncated or damaged, or hold Python objects"
        ) from error
    return found
