"""Factors of parameters that are used more than once, or through tensors that were computed from them."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.gradients.factors import Computed, Factor, Sum
from gradiometer.gradients.rules.linear import Outer


def through(target: Tensor, factor: Factor, parameter: Tensor) -> Factor:
    """The gradient of a parameter from that of a tensor that was computed from it."""

    def compute(start: int, stop: int) -> Tensor:
        inner = factor.gradients(start, stop).to(target.dtype)
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(
                target, parameter, inner, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        none: bool = gradients is None
        return parameter.new_zeros(stop - start, *parameter.shape) if none else gradients

    return Computed(factor.batch, parameter.shape, compute, "through its use")


def total(factors: list[Factor]) -> Factor:
    """The sum of several factors of one parameter, in closed form where there is one."""
    if len(factors) == 1:
        return factors[0]
    outers = [factor for factor in factors if isinstance(factor, Outer)]
    if len(outers) == len(factors) and len({outer.transposed for outer in outers}) == 1:
        return Outer.joined(outers)
    return Sum(factors)
