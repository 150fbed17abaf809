"""What the forward pass alone says: squared norms of the inputs of layers, and the means of some of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients import samples
from gradiometer.gradients.factors import exact, wide
from gradiometer.gradients.tape import Operation, Tape

#: Operations that count as layers, with the position of their input; the weight follows it.
_LAYERS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), 0),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 0),
    "addmm": 1,
}

#: Dimensions of the input of a convolution that come after its channels; those of all other layers come last.
_SPATIAL = {f"{kind}{n}d": n for kind in ("conv", "conv_transpose") for n in (1, 2, 3)}


def layer_input(operation: Operation) -> tuple[str, int] | None:
    """Name of the weight of a layer and position of its input; None for an operation that is no layer."""
    position = _LAYERS.get(getattr(operation.function, "__name__", ""))
    roots = None if position is None else operation.roots.get(position + 1)
    return None if position is None or roots is None else (min(roots), position)


class LayerInputs:
    """What is kept of the inputs of the layers for B samples, by name of the weight, in the order of their last use.

    Args:
        wanted: Names of the weights of the layers whose means are kept.

    Attributes:
        norms: Squared norms (B,); those of several uses of one layer are added.
        means: Means over all positions (B, channels), of the last use.
    """

    def __init__(self, wanted: Collection[str] = ()) -> None:
        self.wanted = frozenset(wanted)
        self.norms: dict[str, Tensor] = {}
        self.means: dict[str, Tensor] = {}

    def take(self, operation: Operation, name: str, samples_first: Tensor) -> None:
        """Measure the input (B, ...) of one use of a layer."""
        values = wide(samples_first)
        flat = values.flatten(1)
        norms = torch.linalg.vecdot(flat, flat)
        earlier = self.norms.pop(name, None)
        self.norms[name] = norms if earlier is None else earlier + norms
        if name in self.wanted:
            channels = values.ndim - 1 - _SPATIAL.get(getattr(operation.function, "__name__", ""), 0)
            self.means[name] = values.movedim(channels, -1).flatten(1, -2).mean(1)


class Listener(Tape):
    """Takes the inputs for a batch of one sample, whatever way the forward pass takes."""

    def __init__(self, parameters: Mapping[str, Tensor], wanted: Collection[str] = ()) -> None:
        super().__init__(parameters)
        self.found = LayerInputs(wanted)

    def operation(self, operation: Operation) -> Any:
        """Measure the input of a layer."""
        layer = layer_input(operation)
        if layer is not None:
            self.found.take(operation, layer[0], operation.leaves[layer[1]].detach().unsqueeze(0))
        return operation.run()


def one_by_one(
    parameters: Mapping[str, Tensor],
    forward: Callable[[Any], Any],
    x: Any,
    batch: int,
    wanted: Collection[str] = (),
) -> LayerInputs:
    """The inputs of the layers for B samples, each in a forward pass of its own."""
    found: list[LayerInputs] = []
    for at in range(batch):
        with Listener(parameters, wanted) as listener:
            forward(samples.take(x, at, at + 1))
        found.append(listener.found)
    together = LayerInputs(wanted)
    together.norms = _joined([part.norms for part in found])
    together.means = _joined([part.means for part in found])
    return together


def _joined(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The samples behind each other; zero for a sample that took another way around a layer."""
    examples = {name: value for part in found for name, value in part.items()}
    return {
        name: torch.cat([part.get(name, torch.zeros_like(example)) for part in found])
        for name, example in examples.items()
    }


def gathered(
    parameters: Collection[str], parts: Sequence[LayerInputs]
) -> tuple[tuple[str, ...], Tensor | None, dict[str, Tensor]]:
    """What was kept of a batch that was read in parts.

    Args:
        parameters: Names of all parameters, in the order in which the layers are to come.
        parts: What was kept of each part; none when nothing was asked for.

    Returns:
        Names of the weights of the L layers, their norms (B, L) float64, and the means by name.

    Raises:
        InputError: There is no layer of a name whose means were wanted.
        ModelError: The model uses no layer.
    """
    if not parts:
        return (), None, {}
    layers = tuple(name for name in parameters if name in parts[0].norms)
    if not layers:
        raise ModelError("the model has no linear or convolution layer whose activations could be read")
    if missing := parts[0].wanted - set(parts[0].means):
        raise InputError(f"there is no layer {min(missing)!r} to take means of; there are: {', '.join(layers)}")
    norms = [torch.stack([exact(part.norms[name]) for name in layers], 1) for part in parts]
    return layers, torch.cat(norms), {name: torch.cat([part.means[name] for part in parts]) for name in parts[0].means}
