"""Batch norm folded into the convolution before it, for the time of a pass.

In evaluation mode a batch norm multiplies and shifts channels: y = s z + t with s = γ / sqrt(variance + ε), so that a
convolution z and the batch norm behind it are one convolution with the weights s W. That saves the batch norm's forward
and backward pass over the images. The statistics stay exact: with the gradient g of y, the gradient of the unfolded
weight is the correlation of the input with s g; the batch norm's scale needs the normalised input, which is
(y - β) / γ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradiometer.gradients.tape import Operation

_CONVOLUTIONS = frozenset({torch.conv1d, torch.conv2d, torch.conv3d})
_NORMS = frozenset({functional.batch_norm, torch.batch_norm})
#: Largest |β / γ|, and mean in standard deviations, with which the normalised input is found to float precision.
_RATIO = 16.0
#: Operations after which what was below zero is of no interest.
RECTIFIERS = frozenset({functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
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
        and first.get("weight") in convolution.roots
        and convolution.leaves[first["weight"]].dtype == result.dtype
        and all(isinstance(norm.leaves[then[name]], Tensor) for name in ("running_mean", "running_var"))
    )


@dataclass(frozen=True)
class Affine:
    """What a batch norm does to each channel (C,).

    Attributes:
        gamma: Scale γ.
        beta: Shift β.
        centre: Running mean, less the bias of the convolution.
        inverse: 1 / sqrt(variance + ε).
    """

    gamma: Tensor
    beta: Tensor
    centre: Tensor
    inverse: Tensor

    @property
    def scale(self) -> Tensor:
        """What the batch norm multiplies by: s = γ / sqrt(variance + ε)."""
        return self.gamma * self.inverse

    def weights(self, convolution: Operation, weights: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Weight and bias of the folded convolution, by position.

        Args:
            convolution: The convolution.
            weights: Its own, detached, by position.
        """
        at = convolution.positions
        weight = weights[at["weight"]]
        scale = self.scale
        folded = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
        return {at["weight"]: folded, at["bias"]: torch.addcmul(self.beta, self.centre, scale, value=-1)}


def affine(convolution: Operation, norm: Operation) -> Affine | None:
    """What a batch norm does, or None where its input cannot be told from its output to float precision."""
    at = norm.positions

    def value(name: str) -> Tensor:
        tensor: Tensor = norm.leaves[at[name]]
        return tensor.detach()

    gamma, beta, mean, variance = (value(name) for name in ("weight", "bias", "running_mean", "running_var"))
    if len({tensor.dtype for tensor in (gamma, beta, mean, variance)}) > 1:
        return None
    epsilon = norm.leaves[at["eps"]] if "eps" in at else 1e-5
    inverse = torch.rsqrt(variance + float(epsilon))
    bias = convolution.leaves[convolution.positions["bias"]]
    centre = mean if bias is None else mean - bias.detach()
    # Largest offset in the units of what it is taken from.
    ratio = torch.maximum((beta / gamma).abs(), (centre * inverse).abs()).amax()
    return Affine(gamma, beta, centre, inverse) if float(ratio) < _RATIO else None
