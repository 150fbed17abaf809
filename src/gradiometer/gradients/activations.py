"""Squared norms of the inputs of layers: what the forward pass alone says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients import samples
from gradiometer.gradients.factors import wide
from gradiometer.gradients.tape import Operation, Tape

#: Operations that count as layers, with the position of their input; the weight follows it.
_LAYERS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), 0),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 0),
    "addmm": 1,
}


def layer_input(operation: Operation) -> tuple[str, int] | None:
    """Name of the weight of a layer and position of its input; None for an operation that is no layer."""
    position = _LAYERS.get(getattr(operation.function, "__name__", ""))
    roots = None if position is None else operation.roots.get(position + 1)
    return None if position is None or roots is None else (min(roots), position)


def add_norms(found: dict[str, Tensor], name: str, samples_first: Tensor) -> None:
    """Add the squared norms of inputs (B, ...) to those of earlier uses of the same layer."""
    flat = wide(samples_first).flatten(1)
    norms = torch.linalg.vecdot(flat, flat)
    found[name] = found[name] + norms if name in found else norms


class Listener(Tape):
    """Takes the norms for a batch of one sample, whatever way the forward pass takes."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__(parameters)
        self.found: dict[str, Tensor] = {}

    def operation(self, operation: Operation) -> Any:
        """Measure the input of a layer."""
        layer = layer_input(operation)
        if layer is not None:
            add_norms(self.found, layer[0], operation.leaves[layer[1]].detach().unsqueeze(0))
        return operation.run()


def one_by_one(
    parameters: Mapping[str, Tensor], forward: Callable[[Any], Any], x: Any, batch: int
) -> dict[str, Tensor]:
    """The norms of B samples, each in a forward pass of its own, by layer."""
    found: list[dict[str, Tensor]] = []
    for at in range(batch):
        with Listener(parameters) as listener:
            forward(samples.take(x, at, at + 1))
        found.append(listener.found)
    names = {name for norms in found for name in norms}
    nothing = torch.zeros(1)
    return {
        name: torch.cat([norms.get(name, nothing.to(next(iter(norms.values()), nothing))) for norms in found])
        for name in names
    }
