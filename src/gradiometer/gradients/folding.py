"""Batch norm folded into the convolution before it, for the backward pass.

In evaluation mode a batch norm multiplies and shifts channels: y = s z + t with s = γ / sqrt(variance + ε), so that a
convolution z = W x and the batch norm behind it are one convolution with the weights s W. The backward pass uses that:
it sends the gradient g of y straight to x. The forward pass computes the same numbers as the model, the batch norm in
place of its input: other roundings would switch units that are within rounding of zero.

The statistics stay exact: the gradient of W is the correlation of x with s g, and the batch norm's scale needs the
normalised input, which is (y - β) / γ, or what the gradient of W says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradiometer.gradients import kernels
from gradiometer.gradients.rules import costs
from gradiometer.gradients.rules.geometry import per_dimension
from gradiometer.gradients.stacked import Labels
from gradiometer.gradients.tape import Operation

_CONVOLUTIONS = frozenset({torch.conv1d, torch.conv2d, torch.conv3d})
_NORMS = frozenset({functional.batch_norm, torch.batch_norm})
#: Largest |β / γ|, and mean in standard deviations, with which the normalised input is found to float precision.
_RATIO = 16.0
#: Operations after which what was below zero is of no interest.
RECTIFIERS = frozenset({functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
#: Additions, whose backward pass does not need their result either.
SUMS = frozenset({torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__})
#: Operations with parameters whose backward pass does not need their result, so that a rectifier may overwrite it.
FORGETFUL = (
    _CONVOLUTIONS | _NORMS | {functional.linear, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
)
_DTYPES = frozenset({torch.float32, torch.float64})


class Readers:
    """Which operations read the tensors of a forward pass."""

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[Any, bool]]] = {}

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """Nothing has read these tensors yet; an earlier one at the same place in memory is gone."""
        for tensor in tensors:
            self._seen[id(tensor)] = []

    def note(self, function: Any, tensors: Iterable[Tensor], result: Any = None) -> None:
        """A function has read these tensors; its result may be one of them, changed."""
        for tensor in tensors:
            if id(tensor) in self._seen:
                self._seen[id(tensor)].append((function, result is tensor))

    def only_one(self, tensor: Tensor) -> bool:
        """Whether one operation has read it."""
        return len(self._seen.get(id(tensor), [])) == 1

    def only_rectified(self, tensor: Tensor) -> bool:
        """Whether a rectifier has read it, and no other operation as it was before."""
        seen = self._seen.get(id(tensor), [])
        return bool(seen) and seen[0][0] in RECTIFIERS and (seen[0][1] or len(seen) == 1)


def foldable(convolution: Operation, norm: Operation, result: Tensor) -> bool:
    """Whether a batch norm can be folded into the operation before it.

    Args:
        convolution: An operation with parameters.
        norm: The next one.
        result: What the first returned.
    """
    if convolution.function not in _CONVOLUTIONS or norm.function not in _NORMS or result.dtype not in _DTYPES:
        return False
    first, then = convolution.positions, norm.positions
    fixed = norm.leaves[then["training"]] is False if "training" in then else False
    learned = {then.get("weight"), then.get("bias")} == set(norm.roots)
    return (
        fixed
        and learned
        and norm.leaves[then["input"]] is result
        and "bias" in first
        and not isinstance(convolution.leaves[first["padding"]] if "padding" in first else 0, str)
        and first.get("weight") in convolution.roots
        and convolution.leaves[first["weight"]].dtype == result.dtype
        and all(isinstance(norm.leaves[then[name]], Tensor) for name in ("running_mean", "running_var"))
    )


def overwrites(rectifier: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of one of `RECTIFIERS` overwrites what it reads."""
    in_place = rectifier in (torch.relu_, Tensor.relu_)
    return in_place or bool(kwargs.get("inplace", args[1] if len(args) > 1 else False))


Spread = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
"""Stride, padding, dilation and groups of a convolution."""


def spread(convolution: Operation) -> Spread:
    """How a convolution moves over its input."""
    at = convolution.positions
    dimensions = convolution.leaves[at["weight"]].ndim - 2

    def each(name: str, default: int) -> tuple[int, ...]:
        place = convolution.named.get(name, default)
        return per_dimension(convolution.leaves[place] if name in at else place, dimensions)

    return each("stride", 1), each("padding", 0), each("dilation", 1), each("groups", 1)[0]


@dataclass(frozen=True)
class Affine:
    """What a batch norm does to each channel (C,).

    Attributes:
        gamma: Scale γ.
        beta: Shift β.
        centre: Running mean, less the bias of the convolution.
        inverse: 1 / sqrt(variance + ε).
        mean: Running mean.
        variance: Running variance.
        epsilon: ε.
    """

    gamma: Tensor
    beta: Tensor
    centre: Tensor
    inverse: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float

    @property
    def scale(self) -> Tensor:
        """What the batch norm multiplies by: s = γ / sqrt(variance + ε)."""
        return self.gamma * self.inverse


def affine(convolution: Operation, norm: Operation) -> Affine | None:
    """What a batch norm does, or None where its input cannot be told from its output to float precision."""
    at = norm.positions

    def value(name: str) -> Tensor:
        tensor: Tensor = norm.leaves[at[name]]
        return tensor.detach()

    gamma, beta, mean, variance = (value(name) for name in ("weight", "bias", "running_mean", "running_var"))
    if len({tensor.dtype for tensor in (gamma, beta, mean, variance)}) > 1:
        return None
    epsilon = float(norm.leaves[at["eps"]]) if "eps" in at else 1e-5
    inverse = torch.rsqrt(variance + epsilon)
    bias = convolution.leaves[convolution.positions["bias"]]
    centre = mean if bias is None else mean - bias.detach()
    # Largest offset in the units of what it is taken from.
    ratio = torch.maximum((beta / gamma).abs(), (centre * inverse).abs()).amax()
    return Affine(gamma, beta, centre, inverse, mean, variance, epsilon) if float(ratio) < _RATIO else None


class Convolved(torch.autograd.Function):
    """A convolution, and the batch norm behind it if there is one, of which only the image has a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        run: Callable[[], Tensor],
        weight: Tensor,
        change: Affine | None,
        moves: Spread,
        labels: Labels,
    ) -> Tensor:
        """The output of the last of them.

        Args:
            ctx: Where the backward pass finds what it needs.
            image: The input of the convolution.
            run: The convolution, on parameters without history.
            weight: Its weight.
            change: The batch norm.
            moves: How the convolution moves.
            labels: How many labels are on their way when the gradient comes.
        """
        ctx.save_for_backward(image, weight, *(() if change is None else (change.scale,)))
        ctx.moves, ctx.labels = moves, labels
        output = run()
        if change is None:
            return output
        nothing = output.new_empty(0), output.new_empty(0)
        torch.ops.aten.native_batch_norm.out(
            output, change.gamma, change.beta, change.mean, change.variance, False, 0.0, change.epsilon,
            out=output, save_mean=nothing[0], save_invstd=nothing[1],
        )  # fmt: skip
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the image, through a convolution with W, or s W."""
        image, weight, *scale = ctx.saved_tensors
        if scale:
            weight = weight * scale[0].view(-1, *(1,) * (weight.ndim - 1))
        moves = ctx.moves
        found = ctx.labels.met(gradients[0], lambda errors: image_gradient(image, errors, weight, moves))
        return found, None, None, None, None, None


def padded_by_numbers(convolution: Operation) -> bool:
    """Whether a convolution is told how many pixels to add, and not in a word, such as `same`."""
    place = convolution.positions.get("padding")
    return place is None or not isinstance(convolution.leaves[place], str)


def in_tiles(convolution: Operation) -> bool:
    """Whether the kernel of our own is faster than the native one for the gradient of the image.

    Args:
        convolution: A convolution that is padded by numbers.
    """
    at = convolution.positions
    image, weight = (convolution.leaves[at[name]] for name in ("input", "weight"))
    if image.ndim != 4:
        return False
    return _in_tiles(len(image), image, weight, spread(convolution))


def image_gradient(image: Tensor, errors: Tensor, weight: Tensor, moves: Spread) -> Tensor:
    """The gradient of the image of a convolution, by the kernel of our own where it is faster than the native one.

    Args:
        image: The image (B, C, *pixels), of which only size, kind and memory format are looked at.
        errors: Gradients of the output (N, O, *positions).
        weight: The weight.
        moves: How the convolution moves.
    """
    stride, padding, dilation, groups = moves
    if _in_tiles(len(errors), image, weight, moves):
        found = kernels.image_gradient(image, errors, weight, padding)
        if found is not None:
            return found
    if len(errors) > len(image):
        image = image.new_empty_strided((len(errors), *image.shape[1:]), image.stride())
    gradient: Tensor
    (gradient, *_) = torch.ops.aten.convolution_backward(
        errors, image, weight, None, stride, padding, dilation, False, [0] * len(stride), groups, (True, False, False)
    )
    return gradient


def _in_tiles(images: int, image: Tensor, weight: Tensor, moves: Spread) -> bool:
    window = kernels.Window(tuple(weight.shape[2:]), *moves)
    outputs, inputs = weight.shape[:2]
    return (
        window.by_pixel
        and max(window.padding) <= 2
        and costs.tiled_gradient(images, (outputs, inputs), (image.shape[2], image.shape[3]))
    )
