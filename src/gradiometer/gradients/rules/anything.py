"""Every other operation: a vector-Jacobian product of that one operation, vectorised over the samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.factors import Computed, Factor
from gradiometer.gradients.rules.elementwise import broadcast
from gradiometer.gradients.rules.registry import Call, layer_rule


def any_operation(
    function: Callable[..., Tensor],
    weights: Sequence[Tensor],
    activations: Sequence[Tensor],
    errors: Tensor,
) -> list[Factor]:
    """Factors of an operation without a layer rule.

    Args:
        function: Maps the weights, then the activations of one sample, to the output for that sample.
        weights: The tensors whose gradients are asked for.
        activations: Arguments that depend on the batch, each (B, ...).
        errors: Gradients of the output (B, ...).

    Returns:
        One factor for each weight.
    """

    def product(which: int) -> Callable[[int, int], Tensor]:
        def of_sample(error: Tensor, *sample: Tensor) -> Tensor:
            def of_weight(weight: Tensor) -> Tensor:
                return function(*weights[:which], weight, *weights[which + 1 :], *sample)

            pull_back = torch.func.vjp(of_weight, weights[which])[1]
            gradient: Tensor = pull_back(error)[0]
            return gradient

        def of_range(start: int, stop: int) -> Tensor:
            arguments = [errors[start:stop], *(activation[start:stop] for activation in activations)]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # one operation, not a whole model
                gradients: Tensor = torch.func.vmap(of_sample)(*arguments)
            return gradients

        return of_range

    return [Computed(len(errors), weight.shape, product(which)) for which, weight in enumerate(weights)]


@layer_rule(
    torch.Tensor.expand, torch.Tensor.expand_as, torch.broadcast_to, torch.Tensor.broadcast_to, arguments="input size"
)
def expand(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """A parameter that is copied for each sample, such as the class token of a vision transformer."""
    if call.wanted != {"input"}:
        return None
    return {"input": broadcast(call.weight("input"), errors)}


@layer_rule(torch.Tensor.repeat, torch.tile, torch.Tensor.tile, arguments="input repeats")
def repeat(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """As `expand`, with copies that exist; only along dimensions that the parameter has with size one or lacks."""
    weight: Any = call.weight("input")
    padded = (1,) * (errors.ndim - 1 - weight.ndim) + tuple(weight.shape)
    if any(old not in (1, new) for old, new in zip(padded, errors.shape[1:], strict=True)):
        return None
    return expand(call, errors)
