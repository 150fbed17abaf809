"""What a source of images is: rows that can be counted, read from any point on, and annotated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradiometer.data.decode import Picture
from gradiometer.errors import InputError


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        name: The path, or the file and the number of the row.
        picture: What there is to decode.
    """

    name: str
    picture: Picture


@dataclass(frozen=True)
class Annotations:
    """What a source says about its rows, all of them in order.

    Attributes:
        labels: int64 (N,), or None.
        classes: Class names, or empty.
        groups: int64 (N,) base images, or None when every row is its own.
    """

    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None


CLASSES = 100_000
"""Numbers of classes below which whole numbers are taken for classes: with larger ones they are identifiers."""


def numbered(highest: int, source: str) -> tuple[str, ...]:
    """Names of classes that are numbers from 0 on.

    Args:
        highest: The largest number.
        source: What holds the labels, for the message.

    Raises:
        InputError: The number is too large for a class.
    """
    if highest >= CLASSES:
        raise InputError(f"the labels of {source} reach {highest}; give classes from 0, below {CLASSES}")
    return tuple(str(number) for number in range(highest + 1))


class Rows(Protocol):
    """A source of images. The order of the rows is the same each time."""

    def count(self) -> int:
        """The number of rows, unreadable ones included."""
        ...

    def read(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on, in bounded memory."""
        ...

    def annotations(self) -> Annotations:
        """Labels, classes and base images of all rows."""
        ...


@dataclass(frozen=True)
class ArrayRows:
    """Rows that are in memory already.

    Attributes:
        name: What the row names start with.
        pixels: uint8 (N, H, W) or (N, H, W, 3).
        notes: What is known about the rows.
    """

    name: str
    pixels: NDArray[np.uint8]
    notes: Annotations

    def count(self) -> int:
        """The number of rows."""
        return len(self.pixels)

    def read(self, start: int = 0) -> Iterator[Row]:
        """The rows from number `start` on."""
        return (Row(f"{self.name}#{row}", self.pixels[row]) for row in range(start, len(self.pixels)))

    def annotations(self) -> Annotations:
        """Labels and classes."""
        return self.notes


def one_label_each(labels: NDArray[np.generic], count: int, where: str) -> NDArray[np.int64]:
    """Labels of shape (N,) or (N, 1) as int64 (N,).

    Args:
        labels: As stored.
        count: N.
        where: What holds them, for the message.

    Raises:
        InputError: If there are not N of them, some image has several, or they are not whole numbers from 0.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise InputError(
            f"{where} has shape {labels.shape}: several labels for each image; "
            "store one class number for each image, (N,) or (N, 1)"
        )
    if labels.shape != (count,):
        raise InputError(f"{where} has shape {labels.shape} for {count} images; store one label for each image")
    if labels.dtype.kind not in "iu":
        raise InputError(f"{where} has type {labels.dtype}; store class numbers as whole numbers from 0")
    if count and int(labels.min()) < 0:
        raise InputError(f"{where} has the label {labels.min()}; number the classes from 0")
    return labels.astype(np.int64)


def some_rows(count: int, limit: int | None) -> NDArray[np.int64]:
    """A fixed random choice of at most `limit` of `count` rows, in their order; all of them when there is no limit."""
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(0).choice(count, limit, replace=False)).astype(np.int64)
