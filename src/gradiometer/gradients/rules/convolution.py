"""Convolutions of any dimension, and transposed ones, which are the same with input and error exchanged.

A 1 x 1 kernel is a linear layer over positions (`pixels`); the forms of all others are those of `Correlation`.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.factors import CHUNK, Dense, Factor, Sides, wide
from gradiometer.gradients.kernels import Rows
from gradiometer.gradients.rules.correlation import Correlation
from gradiometer.gradients.rules.geometry import Geometry, per_dimension
from gradiometer.gradients.rules.linear import Outer
from gradiometer.gradients.rules.normalization import shift_sums
from gradiometer.gradients.rules.registry import Call, layer_rule
from gradiometer.gradients.stacked import again


def correlation(inputs: Tensor, errors: Tensor, geometry: Geometry) -> Factor:
    """The gradient of a convolution weight, as a linear layer where it is one; see `Correlation`."""
    plain = set(geometry.kernel) == {1} and geometry.groups == 1 and not any(map(any, geometry.padding))
    if not plain:
        return Correlation(inputs, errors, geometry)
    if set(geometry.stride) != {1}:
        window = geometry.window((0,) * len(geometry.kernel), tuple(errors.shape[3:]))
        inputs = inputs[(slice(None),) * 3 + window]
    rows = again(inputs.movedim(2, -1).flatten(1, -2), len(errors) // len(inputs))
    outer = Outer(rows, errors.movedim(2, -1).flatten(1, -2))
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

    def sides(self, directions: int) -> Sides | None:
        """The two sides of the factor."""
        return self._inner.sides(directions)

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,)."""
        return self._inner.inner_products(reference.reshape(self._inner.shape))


_NAMES = "input weight bias stride padding dilation groups"
_TRANSPOSED_NAMES = "input weight bias stride padding output_padding groups dilation"


@layer_rule(torch.conv1d, torch.conv2d, torch.conv3d, arguments=_NAMES, shares=True)
def convolution(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Convolutions of any dimension, stride, padding (also by name), dilation and grouping."""
    weight = call.weight("weight")
    geometry = _geometry(call, tuple(weight.shape[2:]))
    if geometry is None or call.layouts["input"].dim != 0:
        return None
    inputs, scale = call.samples("input"), call.scale
    if scale is None:
        return _found(call, errors, lambda: correlation(inputs, errors, geometry))
    channels = scale.view(-1, *(1,) * (errors.ndim - 3))
    if "bias" in call.wanted:
        scaled = errors * channels
        return _found(call, scaled, lambda: correlation(inputs, scaled, geometry))
    plain = correlation(inputs, errors, geometry)
    if isinstance(plain, Correlation) and plain.by_kernel:
        return {"weight": ScaledRows(plain, scale, weight)}
    small = plain.shape.numel() <= 2 * errors[0].numel() and 4 * plain.batch * plain.shape.numel() <= CHUNK
    if small and plain.form in ("groups", "offsets"):
        gradients = torch.cat([plain.gradients(*bounds) for bounds in plain.chunks()])
        return {"weight": Scaled(gradients, scale, plain.form)}
    return {"weight": correlation(inputs, errors * channels, geometry)}


class ByChannel(Factor):
    """Gradients of the weight of a convolution from which the batch norm behind it can take its own."""

    @abstractmethod
    def row_products(self, reference: Tensor) -> Tensor:
        """Inner products (B, O) of the gradients that are not multiplied with a reference (O, ...), by channel."""

    @abstractmethod
    def shift_sums(self, errors: Tensor) -> Tensor:
        """Sums (B, O) of the errors (B, R, O, *positions)."""


class ScaledRows(ByChannel):
    """Gradients of which the kernel of our own gives statistics by output channel, which are still to be multiplied.

    Args:
        plain: The gradients.
        scale: What by (O,).
        weight: The weight, of which `row_products` are found together with the squares.
    """

    def __init__(self, plain: Correlation, scale: Tensor, weight: Tensor) -> None:
        super().__init__(plain.batch, plain.shape)
        self._plain, self._scale, self._weight = plain, scale.to(plain.errors.dtype), weight
        self.form = plain.form
        self._found: Rows | None = None

    def _rows(self, *, magnitudes: bool = False) -> Rows:
        """What the batch norm needs too, from one pass; magnitudes only where they are asked for first."""
        if self._found is None or (magnitudes and self._found.magnitudes is None):
            self._found = self._plain.rows(magnitudes=magnitudes, totals=True, reference=self._weight)
        return self._found

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients of a range of samples."""
        gradients = self._plain.gradients(start, stop)
        return gradients * self._scale.view(-1, *(1,) * (gradients.ndim - 2))

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        return self._rows().squares @ self._scale.square()

    def absolute_sums(self) -> Tensor:
        """L1 norms (B,)."""
        magnitudes = self._rows(magnitudes=True).magnitudes
        assert magnitudes is not None
        return magnitudes @ self._scale.abs()

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,)."""
        return self._plain.products(reference) @ self._scale

    def sides(self, directions: int) -> Sides | None:
        """Both sides, where they are cheaper, with the scale on that of the errors."""
        found = self._plain.sides(directions)
        if found is None:
            return None
        scale = self._scale.view(self._plain.geometry.groups, -1, 1)
        return replace(found, errors=lambda start, stop: found.errors(start, stop) * scale)

    def row_products(self, reference: Tensor) -> Tensor:
        """Inner products (B, O) of the gradients that are not multiplied with a reference (O, ...), by channel."""
        if reference is not self._weight:
            return self._plain.products(reference)
        products = self._rows().products
        assert products is not None
        return products

    def shift_sums(self, errors: Tensor) -> Tensor:
        """Sums (B, O) of the errors, which were read already."""
        totals = self._rows().totals
        assert totals is not None
        return totals


class Scaled(Dense, ByChannel):
    """Explicit gradients whose output channels are still to be multiplied.

    Args:
        values: The gradients (B, O, ...).
        scale: What by (O,).
        form: Name of the path, for the plan.
    """

    def __init__(self, values: Tensor, scale: Tensor, form: str) -> None:
        super().__init__(values * scale.view(-1, *(1,) * (values.ndim - 2)), form)
        self._plain = values

    def row_products(self, reference: Tensor) -> Tensor:
        """Inner products (B, O) of the gradients that are not multiplied with a reference (O, ...), by channel."""
        products = self._plain.flatten(2) * reference.to(self._plain.dtype).flatten(1)
        return products.sum(2)

    def shift_sums(self, errors: Tensor) -> Tensor:
        """Sums (B, O) of the errors (B, R, O, *positions)."""
        return shift_sums(errors)


@layer_rule(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, arguments=_TRANSPOSED_NAMES)
def transposed_convolution(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Transposed convolutions: the weight (C, O / groups, *kernel) correlates error with input."""
    weight = call.weight("weight")
    geometry = _geometry(call, tuple(weight.shape[2:]))
    if geometry is None or call.layouts["input"].dim != 0:
        return None

    def exchanged() -> Factor:
        factor = correlation(errors, call.samples("input"), geometry)
        factor.exchanged = True
        return factor

    return _found(call, errors, exchanged)


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
    stride, dilation = (per_dimension(call.get(name, 1), dimensions) for name in ("stride", "dilation"))
    padding = call.get("padding", 0)
    zeros = padding if padding == "same" else per_dimension(0 if padding == "valid" else padding, dimensions)
    return _moving(kernel, stride, zeros, dilation, int(call.get("groups", 1)))


@functools.lru_cache(maxsize=1024)
def _moving(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> Geometry:
    """How a kernel moves, with padding in numbers or as `same`."""
    if isinstance(padding, str):
        totals = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        sides = tuple((total // 2, total - total // 2) for total in totals)
    else:
        sides = tuple((size, size) for size in padding)
    return Geometry(kernel, stride, sides, dilation, groups)
