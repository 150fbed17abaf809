"""Convolutions: the gradient is a correlation of input and error, read in the cheapest of several exact forms.

For one sample with C input channels, O output channels, P output positions and K kernel offsets:

* `offsets`: one matrix product (O x P)(P x C) for each kernel offset, on shifted views of the padded input. There is no
  im2col. It costs K P O C multiplications, those of an ordinary weight gradient.
* `groups`: the native weight gradient of a convolution whose groups are the samples; good for few channels.
* `gram`: the squared norm is the inner product of two P x P Gram matrices, that of the errors and that of the patches.
  The patch Gram matrix is a sum over kernel offsets of shifted blocks of the pixel Gram matrix of the padded input, so
  patches never appear and the cost is P^2 (C + O + K) instead of K P O C.
* `pixels`: a 1 x 1 kernel is a linear layer over positions.

A transposed convolution is the same with input and error exchanged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.factors import CHUNK, Dense, Factor, wide
from gradiometer.gradients.rules import costs
from gradiometer.gradients.rules.linear import Outer
from gradiometer.gradients.rules.registry import Call, layer_rule


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

    def lines(self, outputs: tuple[int, ...]) -> Lines | None:
        """How positions lie in the flattened padded input, for windows that move by one pixel; None for others."""
        if set(self.stride) != {1}:
            return None
        sizes = [count + (size - 1) * gap for count, size, gap in zip(outputs, self.kernel, self.dilation, strict=True)]
        jumps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        shifts = tuple(
            sum(first * jump for first, jump in zip(offset, jumps, strict=True)) for offset in self.offsets()
        )
        length = 1 + sum((count - 1) * jump for count, jump in zip(outputs, jumps, strict=True))
        return Lines(tuple(sizes), length, shifts)

    def pad(self, inputs: Tensor, outputs: tuple[int, ...]) -> Tensor:
        """Pad the spatial dimensions, and cut what no window reaches."""
        sizes = []
        for axis in reversed(range(len(self.kernel))):
            before, _ = self.padding[axis]
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + self.stride[axis] * (outputs[axis] - 1) + 1
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
        shifts: Shift of each kernel offset.
    """

    sizes: tuple[int, ...]
    length: int
    shifts: tuple[int, ...]

    def spread(self, errors: Tensor) -> Tensor:
        """Errors (..., *positions) as (..., length)."""
        dimensions = len(self.sizes)
        missing = [size - count for size, count in zip(self.sizes, errors.shape[-dimensions:], strict=True)]
        widths = [width for size in reversed([0, *missing[1:]]) for width in (0, size)]
        padded = torch.nn.functional.pad(errors, widths) if any(widths) else errors
        return padded.flatten(-dimensions)[..., : self.length]


class Correlation(Factor):
    """Gradient of a convolution weight (O, C / groups, *kernel).

    Args:
        inputs: Inputs (B, R, C, *pixels); R is 1 unless several frames of a sample are folded into the batch.
        errors: Gradients of the outputs (B, R, O, *positions).
        geometry: How the kernel moves.
    """

    def __init__(self, inputs: Tensor, errors: Tensor, geometry: Geometry) -> None:
        self.inputs, self.errors, self.geometry = wide(inputs), wide(errors), geometry
        self._outputs = tuple(errors.shape[3:])
        self._positions = math.prod(self._outputs)
        self._channels = inputs.shape[2] // geometry.groups, errors.shape[2] // geometry.groups
        shape = torch.Size((errors.shape[2], self._channels[0], *geometry.kernel))
        super().__init__(len(inputs), shape)
        self.explicit_form, self.form = self._choose()

    def _choose(self) -> tuple[str, str]:
        """The cheapest form for explicit gradients, and for the squared norm."""
        frames = self.inputs.shape[1]
        task = costs.Task(
            positions=self._positions * frames,
            pixels=math.prod(
                (size - 1) * gap + step * (count - 1) + 1
                for size, gap, step, count in zip(
                    self.geometry.kernel, self.geometry.dilation, self.geometry.stride, self._outputs, strict=True
                )
            ),
            inputs=self._channels[0],
            outputs=self._channels[1],
            kernel=math.prod(self.geometry.kernel),
            groups=self.geometry.groups,
            copied=frames > 1 or set(self.geometry.stride) != {1},
        )
        explicit = min(("offsets", "groups"), key=lambda form: costs.seconds(form, task))
        if frames == 1 and costs.seconds("gram", task) < costs.seconds(explicit, task):
            return explicit, "gram"
        return explicit, explicit

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients (stop - start, O, C / groups, *kernel)."""
        inputs, errors = self.inputs[start:stop], self.errors[start:stop]
        if self.explicit_form == "groups":
            return self._by_groups(inputs, errors)
        return torch.stack(list(self._by_offset(inputs, errors)), 4).view(stop - start, *self.shape)

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        if self.form == "gram":
            return torch.cat([self._gram(*bounds) for bounds in self._gram_chunks()])
        if self.form == "groups":
            return super().squared_norms()
        total = self.inputs.new_zeros(self.batch)
        for start, stop in self.chunks():
            for part in self._by_offset(self.inputs[start:stop], self.errors[start:stop]):
                total[start:stop] += part.square().sum((1, 2, 3))
        return total

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,): one more forward pass of the layer with the reference as its weight."""
        batch, frames = self.inputs.shape[:2]
        padded = self.geometry.pad(self.inputs.flatten(0, 1), self._outputs)
        convolve: Any = (
            torch.nn.functional.conv1d,
            torch.nn.functional.conv2d,
            torch.nn.functional.conv3d,
        )[len(self._outputs) - 1]
        geometry = self.geometry
        outputs: Tensor = convolve(
            padded, reference.to(padded.dtype), None, geometry.stride, 0, geometry.dilation, geometry.groups
        )
        return (outputs * self.errors.flatten(0, 1)).flatten(1).sum(1).view(batch, frames).sum(1)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of samples whose explicit gradients, or those of one offset, fit into a chunk."""
        elements = self.shape.numel() if self.explicit_form == "groups" else self.shape[:2].numel()
        padded = self.inputs[0].numel() + self.errors[0].numel()
        step = max(1, CHUNK // (4 * max(elements, padded)))
        for start in range(0, self.batch, step):
            yield start, min(start + step, self.batch)

    def _by_offset(self, inputs: Tensor, errors: Tensor) -> Iterator[Tensor]:
        """The gradient (b, groups, O / groups, C / groups) of each kernel element, in order."""
        batch, frames = inputs.shape[:2]
        groups, (channels, outputs) = self.geometry.groups, self._channels
        padded = self.geometry.pad(inputs, self._outputs)
        lines = self.geometry.lines(self._outputs) if frames == 1 else None
        if lines is not None:
            left = lines.spread(errors.view(batch, groups, outputs, *self._outputs))
            pixels = padded.reshape(batch, groups, channels, -1)
            for shift in lines.shifts:
                yield left @ pixels[..., shift : shift + lines.length].mT
            return
        left = errors.reshape(batch, frames, groups, outputs, -1).movedim(1, 3).flatten(3)
        for offset in self.geometry.offsets():
            window = padded[(slice(None),) * 3 + self.geometry.window(offset, self._outputs)]
            right = window.reshape(batch, frames, groups, channels, -1).movedim(1, 3).flatten(3)
            yield left @ right.mT

    def _by_groups(self, inputs: Tensor, errors: Tensor) -> Tensor:
        """Explicit gradients by the native kernel, with samples in place of groups."""
        batch, geometry = len(inputs), self.geometry
        padding = [before for before, _ in geometry.padding]
        if any(before != after for before, after in geometry.padding):
            inputs, padding = geometry.pad(inputs, self._outputs), [0] * len(padding)
        inputs, errors = inputs.transpose(0, 1).flatten(1, 2), errors.transpose(0, 1).flatten(1, 2)
        weight = inputs.new_empty(batch * self.shape[0], *self.shape[1:])
        gradient: Tensor
        _, gradient, _ = torch.ops.aten.convolution_backward(
            errors, inputs, weight, None, geometry.stride, padding, geometry.dilation, False, [0] * len(padding),
            batch * geometry.groups, (False, True, False),
        )  # fmt: skip
        return gradient.view(batch, *self.shape)

    def _gram(self, start: int, stop: int) -> Tensor:
        """Squared norms of a range of samples from Gram matrices of pixels and of errors."""
        batch, groups, (channels, outputs) = stop - start, self.geometry.groups, self._channels
        padded = self.geometry.pad(self.inputs[start:stop, 0], self._outputs)
        pixels = padded.reshape(batch * groups, channels, -1)
        pixel_gram = pixels.mT @ pixels
        errors = self.errors[start:stop, 0].reshape(batch * groups, outputs, *self._outputs)
        lines = self.geometry.lines(self._outputs)
        if lines is not None:
            errors = lines.spread(errors)
            blocks = [pixel_gram[:, at : at + lines.length, at : at + lines.length] for at in lines.shifts]
        else:
            errors = errors.flatten(2)
            pixel_gram = pixel_gram.view(batch * groups, *padded.shape[2:], *padded.shape[2:])
            windows = (self.geometry.window(offset, self._outputs) for offset in self.geometry.offsets())
            blocks = [pixel_gram[(slice(None), *window, *window)].flatten(-len(window)) for window in windows]
            blocks = [block.flatten(1, -2) for block in blocks]
        patch_gram = blocks[0].clone()
        for block in blocks[1:]:
            patch_gram += block
        products = (errors.mT @ errors).mul_(patch_gram).flatten(1).sum(1)
        return products.view(batch, groups).sum(1)

    def _gram_chunks(self) -> Iterator[tuple[int, int]]:
        pixels = math.prod(
            size + before + after
            for size, (before, after) in zip(self.inputs.shape[3:], self.geometry.padding, strict=True)
        )
        step = max(1, CHUNK // (4 * self.geometry.groups * (pixels**2 + 2 * self._positions**2)))
        for start in range(0, self.batch, step):
            yield start, min(start + step, self.batch)


def correlation(inputs: Tensor, errors: Tensor, geometry: Geometry) -> Factor:
    """The gradient of a convolution weight, as a linear layer where it is one."""
    plain = set(geometry.kernel) == {1} and geometry.groups == 1 and not any(map(any, geometry.padding))
    if not plain:
        return Correlation(inputs, errors, geometry)
    if set(geometry.stride) != {1}:
        window = geometry.window((0,) * len(geometry.kernel), tuple(errors.shape[3:]))
        inputs = inputs[(slice(None),) * 3 + window]
    outer = Outer(inputs.movedim(2, -1).flatten(1, -2), errors.movedim(2, -1).flatten(1, -2))
    return Reshaped(outer, torch.Size((*outer.shape, *geometry.kernel)))


class Reshaped(Factor):
    """A factor whose parameter has another shape with the same entries in the same order.

    Args:
        inner: The factor.
        shape: Shape of the parameter.
    """

    def __init__(self, inner: Factor, shape: torch.Size) -> None:
        super().__init__(inner.batch, shape)
        self._inner = inner
        self.form = f"pixels, {inner.form}"

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients of a range of samples."""
        return self._inner.gradients(start, stop).reshape(stop - start, *self.shape)

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        return self._inner.squared_norms()

    def absolute_sums(self) -> Tensor:
        """L1 norms (B,)."""
        return self._inner.absolute_sums()

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,)."""
        return self._inner.inner_products(reference.reshape(self._inner.shape))


_NAMES = "input weight bias stride padding dilation groups"
_TRANSPOSED_NAMES = "input weight bias stride padding output_padding groups dilation"


@layer_rule(torch.conv1d, torch.conv2d, torch.conv3d, arguments=_NAMES)
def convolution(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Convolutions of any dimension, stride, padding (also by name), dilation and grouping."""
    weight = call.weight("weight")
    geometry = _geometry(call, tuple(weight.shape[2:]))
    if geometry is None or call.layouts["input"].dim != 0:
        return None
    return _found(call, errors, lambda: correlation(call.samples("input"), errors, geometry))


@layer_rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, arguments=_TRANSPOSED_NAMES)
def transposed_convolution(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Transposed convolutions: the weight (C, O / groups, *kernel) correlates error with input."""
    weight = call.weight("weight")
    geometry = _geometry(call, tuple(weight.shape[2:]))
    if geometry is None or call.layouts["input"].dim != 0:
        return None
    return _found(call, errors, lambda: correlation(errors, call.samples("input"), geometry))


def _found(call: Call, errors: Tensor, weight: Any) -> dict[str, Factor]:
    found: dict[str, Factor] = {}
    if "weight" in call.wanted:
        found["weight"] = weight()
    if "bias" in call.wanted:
        found["bias"] = Dense(wide(errors).flatten(3).sum((1, 3)))
    return found


def _geometry(call: Call, kernel: tuple[int, ...]) -> Geometry | None:
    """Read the arguments of a convolution; None when the input has no batch dimension."""
    dimensions = len(kernel)
    if call.weight("input").ndim != dimensions + 2:
        return None

    def each(value: Any) -> tuple[int, ...]:
        values = tuple(int(item) for item in value) if isinstance(value, tuple | list) else (int(value),)
        return values * dimensions if len(values) == 1 else values

    dilation = each(call.get("dilation", 1))
    padding = call.get("padding", 0)
    if padding == "same":
        totals = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        sides = tuple((total // 2, total - total // 2) for total in totals)
    else:
        sides = tuple((size, size) for size in each(0 if padding == "valid" else padding))
    return Geometry(kernel, each(call.get("stride", 1)), sides, dilation, int(call.get("groups", 1)))
