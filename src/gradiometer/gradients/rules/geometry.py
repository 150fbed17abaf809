"""How the kernel of a convolution moves over its input, and what that means for flat positions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.kernels import Window


def per_dimension(value: Any, dimensions: int) -> tuple[int, ...]:
    """An argument of a convolution, such as its stride, with one number for each spatial dimension."""
    values = tuple(map(int, value)) if isinstance(value, tuple | list) else (int(value),)
    return values * dimensions if len(values) == 1 else values


@dataclass(frozen=True)
class Geometry:
    """How the kernel moves.

    Attributes:
        kernel: Kernel size in each spatial dimension.
        stride: Stride in each.
        padding: Zeros added on each side, in each; both sides are given because `same` padding can be lopsided.
        dilation: Distance between kernel elements, in each.
        groups: Number of groups.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """First pixel of the padded input under each kernel element."""
        steps = (range(0, size * gap, gap) for size, gap in zip(self.kernel, self.dilation, strict=True))
        return itertools.product(*steps)

    def window(self, offset: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[slice[int, int, int], ...]:
        """The pixels of the padded input that one kernel element meets, as slices of the spatial dimensions."""
        return tuple(
            slice(first, first + step * (count - 1) + 1, step)
            for first, step, count in zip(offset, self.stride, outputs, strict=True)
        )

    def reach(self, outputs: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the padded input in each dimension, without what no window reaches."""
        return tuple(
            (size - 1) * gap + step * (count - 1) + 1
            for size, gap, step, count in zip(self.kernel, self.dilation, self.stride, outputs, strict=True)
        )

    def lines(self, outputs: tuple[int, ...]) -> Lines | None:
        """How positions lie in the flattened padded input, for windows that move by one pixel; None for others."""
        if set(self.stride) != {1}:
            return None
        sizes = self.reach(outputs)
        jumps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        taps = tuple(
            tuple(jump * first for first in range(0, size * gap, gap))
            for size, gap, jump in zip(self.kernel, self.dilation, jumps, strict=True)
        )
        length = 1 + sum((count - 1) * jump for count, jump in zip(outputs, jumps, strict=True))
        return Lines(sizes, length, taps)

    def on_images(self) -> Window | None:
        """The same for the kernel of our own, which reads images; a line is an image of height 1."""
        if len(self.kernel) > 2:
            return None
        one, none = ((1,), (0,)) if len(self.kernel) == 1 else ((), ())
        padding = tuple(before for before, _ in self.padding)
        return Window(one + self.kernel, one + self.stride, none + padding, one + self.dilation, self.groups)

    def pad(self, inputs: Tensor, outputs: tuple[int, ...]) -> Tensor:
        """Pad the spatial dimensions of (N, C, *pixels), and cut what no window reaches. Keeps the memory format."""
        sizes = []
        for axis, reach in reversed(list(enumerate(self.reach(outputs)))):
            before, _ = self.padding[axis]
            sizes += [before, reach - before - inputs.shape[axis - len(self.kernel)]]
        return torch.nn.functional.pad(inputs, sizes) if any(sizes) else inputs


@dataclass(frozen=True)
class Lines:
    """Positions as a range of the flattened padded input, so that every kernel offset is a shift of that range.

    The errors are spread to the row length of the padded input, with zeros at the ends of rows that no window reaches.
    Then a shifted input, or a shifted block of its Gram matrix, is a slice: nothing is copied.

    Attributes:
        sizes: Size of the padded input in each dimension.
        length: Length of the range.
        taps: Shifts of the kernel elements along each dimension; an element's own shift is the sum over dimensions.
    """

    sizes: tuple[int, ...]
    length: int
    taps: tuple[tuple[int, ...], ...]

    @property
    def shifts(self) -> tuple[int, ...]:
        """Shift of each kernel offset."""
        return tuple(map(sum, itertools.product(*self.taps)))

    @property
    def run(self) -> int:
        """How many kernel elements behind each other meet neighbouring pixels: the last dimension if not dilated."""
        steps = self.taps[-1]
        return len(steps) if steps == tuple(range(len(steps))) else 1

    def spread(self, errors: Tensor) -> Tensor:
        """Errors (N, O, *positions) as (N, O, length). Keeps the memory format."""
        missing = [size - count for size, count in zip(self.sizes, errors.shape[2:], strict=True)]
        widths = [width for size in reversed([0, *missing[1:]]) for width in (0, size)]
        padded = torch.nn.functional.pad(errors, widths) if any(widths) else errors
        return padded.flatten(2)[..., : self.length]
