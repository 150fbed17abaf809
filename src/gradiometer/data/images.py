"""Images in memory: 8-bit pixels with the labels, names and base images that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradiometer import given
from gradiometer.errors import InputError


def to_unit(images: Tensor) -> Tensor:
    """8-bit pixels as float32 in [0, 1].

    Args:
        images: uint8, any shape.

    Returns:
        float32 of the same shape: pixel / 255.
    """
    return images.to(torch.float32, copy=True).div_(255)


def to_bytes(images: Tensor) -> Tensor:
    """Pixels in [0, 1] as 8-bit pixels, rounded to the nearest of the 256 levels and clipped.

    Args:
        images: Floating point, any shape, nominally in [0, 1].

    Returns:
        uint8 of the same shape. `to_bytes(to_unit(x))` is `x` for every uint8 `x`.
    """
    return images.detach().mul(255).round().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Failure:
    """A row of a source that is not an image one can use.

    Attributes:
        name: The row: a path, or the file and the number of the row such as `scans.parquet#17`.
        reason: What is wrong with it, as a sentence without a capital.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, and what is known about each.

    Attributes:
        images: uint8 (N, K, H, W), N >= 1, pixels 0 to 255.
        labels: int64 (N,) from 0 to C - 1, or None when there are none.
        names: N row names: the path, or the file and the number of the row such as `cifar10.npz#17`.
        groups: int64 (N,), the base image of each row. Rows that show the same thing (crops of one photograph, frames
            of one track, corruptions of one image) share a number, so that a split can keep them together.
        classes: C class names, or empty when the source states none.
        failures: Rows of the source that could not be read and are not among the images.

    Raises:
        InputError: If there are no images, a shape or type is wrong, or a label is outside the classes.

    Example:
        >>> import torch
        >>> digits = Images.of(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), labels=[0, 1, 0])
        >>> len(digits), digits.names[2], digits.select([2]).labels
        (3, 'image#2', tensor([0]))
    """

    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]
    groups: Tensor
    classes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes, types and ranges.

        Raises:
            InputError: See the class.
        """
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise InputError(
                f"images must be uint8 of shape (N, channels, height, width), got {self.images.dtype} "
                f"{tuple(self.images.shape)}; bring pixels to 0...255 with gradiometer.data.to_bytes and move "
                "the channels to the second place"
            )
        if 0 in self.images.shape:
            raise InputError(f"there are no images: the shape is {tuple(self.images.shape)}; give at least one")
        count = len(self.images)
        if len(self.names) != count:
            raise InputError(f"{count} images but {len(self.names)} names; give one name for each image")
        _check_numbers("groups", self.groups, count)
        if self.labels is None:
            return
        _check_numbers("labels", self.labels, count)
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0:
            raise InputError(f"labels start at 0, but one is {low}; number the classes from 0, or leave out the labels")
        if self.classes and high >= len(self.classes):
            raise InputError(
                f"a label is {high}, but there are {len(self.classes)} classes, numbered 0 to {len(self.classes) - 1}; "
                "correct the label or name every class"
            )

    @classmethod
    def of(
        cls,
        images: Tensor | NDArray[np.uint8],
        labels: Tensor | Sequence[int] | NDArray[np.integer] | None = None,
        *,
        name: str = "image",
        classes: Sequence[str] = (),
    ) -> Images:
        """Images from bare arrays: rows are named `name#0`, `name#1`, ... and each is its own base image.

        Args:
            images: uint8 (N, K, H, W).
            labels: Whole numbers (N,), or None.
            name: What the row names start with.
            classes: Class names, or empty.

        Raises:
            InputError: As the class.
        """
        pixels = torch.as_tensor(images)
        count = len(pixels) if pixels.ndim else 0
        return cls(
            images=pixels,
            labels=None if labels is None else torch.as_tensor(labels).to(torch.int64),
            names=tuple(f"{name}#{row}" for row in range(count)),
            groups=torch.arange(count),
            classes=tuple(classes),
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def select(self, index: Tensor | Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Images:
        """The rows of an index, in its order; labels, names, groups and classes come along.

        Args:
            index: Row numbers (M,) from -N to N - 1, or a mask of N booleans.

        Returns:
            M images.

        Raises:
            InputError: If the index selects nothing or points outside.
        """
        rows = torch.as_tensor(index)
        if rows.dtype == torch.bool:
            if rows.shape != (len(self),):
                raise InputError(f"a mask must hold {len(self)} booleans, one for each image, got {tuple(rows.shape)}")
            rows = rows.nonzero().flatten()
        if rows.ndim != 1 or len(rows) == 0:
            raise InputError(f"the index selects no images (its shape is {tuple(rows.shape)}); give at least one row")
        rows = rows.to(torch.int64)
        if int(rows.min()) < -len(self) or int(rows.max()) >= len(self):
            raise InputError(
                f"the index reaches from {int(rows.min())} to {int(rows.max())}, but the rows are 0 to {len(self) - 1}"
            )
        return replace(
            self,
            images=self.images[rows],
            labels=None if self.labels is None else self.labels[rows],
            names=tuple(self.names[row] for row in rows.tolist()),
            groups=self.groups[rows],
            failures=(),
        )

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """The images as float32 in [0, 1], a batch at a time and in order.

        Args:
            batch_size: Images in a batch, at least 1; the last batch may hold fewer.

        Yields:
            float32 (B, K, H, W).

        Raises:
            InputError: If the batch size is below 1.
        """
        given.whole("batch_size", batch_size)
        return (to_unit(part) for part in self.images.split(batch_size))


def _check_numbers(name: str, values: Tensor, count: int) -> None:
    if values.dtype != torch.int64 or values.shape != (count,):
        raise InputError(
            f"{name} must be int64 of shape ({count},), one for each image, got {values.dtype} {tuple(values.shape)}"
        )
