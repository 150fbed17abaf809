"""Layers whose exact forms are measured against each other. A new one is one more entry of `LAYERS`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients import kernels
from gradiometer.gradients.factors import Factor
from gradiometer.gradients.rules import convolution, costs
from gradiometer.gradients.rules.convolution import Reshaped
from gradiometer.gradients.rules.correlation import Correlation
from gradiometer.gradients.rules.geometry import Geometry
from gradiometer.gradients.rules.linear import Outer


@dataclass(frozen=True)
class Layer:
    """The size of one square convolution.

    Attributes:
        network: Where it occurs.
        inputs: Channels of the input.
        outputs: Channels of the output.
        size: Height and width of the input.
        kernel: Height and width of the kernel; the input is padded by half of it.
        stride: Stride.
        groups: Number of groups.
    """

    network: str
    inputs: int
    outputs: int
    size: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        """Such as `64→128, 3×3 at 32×32, stride 2`."""
        text = f"{self.inputs}→{self.outputs}, {self.kernel}×{self.kernel} at {self.size}×{self.size}"
        text += f", stride {self.stride}" if self.stride > 1 else ""
        return text + (f", {self.groups} groups" if self.groups > 1 else "")

    @property
    def padding(self) -> int:
        """Zeros on each side."""
        return self.kernel // 2

    def draw(self, batch: int, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs (B, C, H, W) and gradients of the outputs (B, O, H', W'), as they come in a pass: channels fastest."""
        generator = torch.Generator().manual_seed(seed)
        reach = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        inputs = torch.randn(batch, self.inputs, self.size, self.size, generator=generator)
        errors = torch.randn(batch, self.outputs, reach, reach, generator=generator)
        fastest = torch.channels_last
        return inputs.contiguous(memory_format=fastest), errors.contiguous(memory_format=fastest)

    def image_gradients(self, inputs: Tensor, errors: Tensor) -> dict[str, Callable[[], Tensor]]:
        """The gradient of the images by form; none where there is only the native one."""
        weight = torch.randn(self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        padding = (self.padding,) * 2
        if (self.kernel, self.stride, self.groups) != (3, 1, 1):
            return {}
        if kernels.image_gradient(inputs, errors, weight, padding) is None:
            return {}
        native = functools.partial(
            torch.ops.aten.convolution_backward,
            errors, inputs, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1, (True, False, False),
        )  # fmt: skip
        ours = functools.partial(kernels.image_gradient, inputs, errors, weight, padding)
        return {"native": lambda: native()[0], "winograd": ours}

    def geometry(self) -> Geometry:
        """How the kernel moves, as the rule for convolutions takes it."""
        sides = (self.padding, self.padding)
        return Geometry((self.kernel,) * 2, (self.stride,) * 2, (sides, sides), (1, 1), self.groups)

    def ordinary(self, inputs: Tensor, errors: Tensor) -> Callable[[], object]:
        """The batched weight gradient of an ordinary training step."""
        weight = inputs.new_empty(self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        stride, padding = (self.stride,) * 2, (self.padding,) * 2
        return lambda: torch.ops.aten.convolution_backward(
            errors, inputs, weight, None, stride, padding, (1, 1), False, (0, 0), self.groups, (False, True, False)
        )


LAYERS: tuple[Layer, ...] = (
    Layer("ResNet-18", 3, 64, 32),
    Layer("ResNet-18", 64, 64, 32),
    Layer("ResNet-18", 64, 128, 32, stride=2),
    Layer("ResNet-18", 128, 128, 16),
    Layer("ResNet-18", 128, 256, 16, stride=2),
    Layer("ResNet-18", 256, 256, 8),
    Layer("ResNet-18", 256, 512, 8, stride=2),
    Layer("ResNet-18", 512, 512, 4),
    Layer("ResNet-18", 64, 128, 32, kernel=1, stride=2),
    Layer("ResNet-18", 256, 512, 8, kernel=1, stride=2),
    Layer("ResNet-20", 3, 16, 32),
    Layer("ResNet-20", 16, 16, 32),
    Layer("ResNet-20", 16, 32, 32, stride=2),
    Layer("ResNet-20", 32, 32, 16),
    Layer("ResNet-20", 32, 64, 16, stride=2),
    Layer("ResNet-20", 64, 64, 8),
    Layer("DenseNet-BC-40-12", 3, 24, 32),
    Layer("DenseNet-BC-40-12", 48, 12, 32),
    Layer("DenseNet-BC-40-12", 48, 12, 16),
    Layer("DenseNet-BC-40-12", 48, 12, 8),
    Layer("DenseNet-BC-40-12", 84, 48, 32, kernel=1),
    Layer("DenseNet-BC-40-12", 120, 48, 8, kernel=1),
    Layer("depthwise", 64, 64, 16, groups=64),
    Layer("depthwise", 256, 256, 8, kernel=5, groups=256),
    Layer("ConvNeXt-T", 96, 96, 56, kernel=7, groups=96),
    Layer("ConvNeXt-T", 384, 384, 14, kernel=7, groups=384),
    Layer("ViT-S/16, as a sequence of 196", 384, 1536, 14, kernel=1),
    Layer("ViT-S/16, as a sequence of 196", 384, 384, 14, kernel=1),
)


@dataclass(frozen=True)
class Forms:
    """The exact forms of one layer's squared norms.

    Attributes:
        calls: What computes them, by form: squared norms (B,).
        chosen: The form that the rule takes by itself.
        tasks: What the cost model is asked, by form; empty where the rule decides without it.
    """

    calls: dict[str, Callable[[], Tensor]]
    chosen: str
    tasks: dict[str, costs.Task]


def forms_of(layer: Layer, inputs: Tensor, errors: Tensor) -> Forms:
    """All forms of a layer, as its rule has them."""
    samples = inputs.unsqueeze(1), errors.unsqueeze(1), layer.geometry()
    with _asked() as asked:
        factor = convolution.correlation(*samples)
    if isinstance(factor, Reshaped):
        forces = _PIXELS if kernels.missing() else {**_PIXELS, "pixels, kernel": _inner("kernel")}
    else:
        forces = _CORRELATION | {form: _closed(form) for form in ("kernel", "winograd") if form in asked}
    calls = {form: _forced(convolution.correlation(*samples), force) for form, force in forces.items()}
    return Forms(calls, factor.form, dict(asked))


@contextmanager
def _asked() -> Iterator[dict[str, costs.Task]]:
    """Listen to what a rule asks the cost model, so that this script need not derive it a second time."""
    asked: dict[str, costs.Task] = {}
    seconds = costs.seconds

    def listen(form: str, task: costs.Task) -> float:
        asked[form] = task
        return seconds(form, task)

    costs.seconds = listen
    try:
        yield asked
    finally:
        costs.seconds = seconds


def _forced(factor: Factor, force: Callable[[Any], None]) -> Callable[[], Tensor]:
    force(factor)
    return factor.squared_norms


def _explicit(form: str) -> Callable[[Correlation], None]:
    def force(factor: Correlation) -> None:
        factor.explicit_form = factor.form = form

    return force


def _closed(form: str) -> Callable[[Correlation], None]:
    def force(factor: Correlation) -> None:
        factor.form = form

    return force


def _inner(form: str) -> Callable[[Reshaped], None]:
    def force(factor: Reshaped) -> None:
        outer = factor._inner
        if not isinstance(outer, Outer):
            raise TypeError(f"a convolution over pixels holds {type(outer).__name__}, not Outer")
        outer.form = form

    return force


#: How a form is forced on the factor of a convolution, and on that of a 1 x 1 convolution.
_CORRELATION: Mapping[str, Callable[[Any], None]] = {
    "offsets": _explicit("offsets"),
    "groups": _explicit("groups"),
    "gram": _closed("gram"),
}
_PIXELS: Mapping[str, Callable[[Any], None]] = {
    "pixels, explicit": _inner("explicit"),
    "pixels, gram": _inner("gram"),
}
