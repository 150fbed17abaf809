"""Sums and products of a parameter with an activation: position embeddings, layer scales, biases by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.gradients.factors import Computed, Factor, wide
from gradiometer.gradients.rules.registry import Call, layer_rule


def broadcast(weight: Tensor, errors: Tensor) -> Factor:
    """The gradient of a parameter that was broadcast to the errors (B, ...): their sum over all copies."""

    def summed(start: int, stop: int) -> Tensor:
        part = wide(errors[start:stop])
        return part.sum_to_size(len(part), *(1,) * (part.ndim - 1 - weight.ndim), *weight.shape).view(-1, *weight.shape)

    return Computed(len(errors), weight.shape, summed, "sum")


@layer_rule(torch.add, torch.Tensor.add, arguments="input other")
def addition(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`activation + parameter`, in either order, where one of them is no larger than the other."""
    if len(call.wanted) != 1 or call.get("alpha", 1) != 1:
        return None
    (name,) = call.wanted
    weight = call.weight(name)
    return None if weight.ndim >= errors.ndim else {name: broadcast(weight, errors)}


@layer_rule(torch.mul, torch.Tensor.mul, arguments="input other")
def multiplication(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`activation * parameter`, in either order, where the activation has the shape of the result."""
    if len(call.wanted) != 1 or len(call.layouts) != 1:
        return None
    (name,), (other,) = call.wanted, call.layouts
    weight, activation = call.weight(name), call.samples(other)
    if weight.ndim >= errors.ndim or activation.shape != errors.shape:
        return None
    return {name: broadcast(weight, wide(activation) * wide(errors))}
