"""What the forward pass alone says: squared norms of the inputs of layers, and what they are like over positions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Wanted:
    """Of which layers more is kept of the input than its norm, by name of the weight.

    Attributes:
        means: Layers whose means are kept.
        shares: Layers whose shares are kept.
    """

    means: Collection[str] = ()
    shares: Collection[str] = ()


class LayerInputs:
    """What is kept of the inputs of the layers for B samples, by name of the weight, in the order of their last use.

    Args:
        wanted: What is kept besides the norms.

    Attributes:
        norms: Squared norms (B,); those of several uses of one layer are added.
        means: Means over all positions (B, channels), of the last use.
        shares: Shares of the positions (B, channels) at which a channel is above zero, of the last use; none of layers
            whose input has no positions.
    """

    def __init__(self, wanted: Wanted | None = None) -> None:
        self.wanted = wanted or Wanted()
        self.norms: dict[str, Tensor] = {}
        self.means: dict[str, Tensor] = {}
        self.shares: dict[str, Tensor] = {}

    def take(self, operation: Operation, name: str, samples_first: Tensor) -> None:
        """Measure the input of one use of a layer.

        Args:
            operation: The use.
            name: Name of the weight.
            samples_first: The input (B, R, ...), as `Layout.split` gives it.
        """
        values = wide(samples_first)
        flat = values.flatten(1)
        norms = torch.linalg.vecdot(flat, flat)
        earlier = self.norms.pop(name, None)
        self.norms[name] = norms if earlier is None else earlier + norms
        if name in self.wanted.means or name in self.wanted.shares:
            spatial = _SPATIAL.get(getattr(operation.function, "__name__", ""), 0)
            rows = values.movedim(values.ndim - 1 - spatial, -1).flatten(1, -2)
            if name in self.wanted.means:
                self.means[name] = rows.mean(1)
            if name in self.wanted.shares and (spatial or values.ndim > 3 or values.shape[1] > 1):
                self.shares[name] = rows.sign().clamp_(min=0).mean(1)  # several times as fast as a comparison


class Listener(Tape):
    """Takes the inputs for a batch of one sample, whatever way the forward pass takes."""

    def __init__(self, parameters: Mapping[str, Tensor], wanted: Wanted | None = None) -> None:
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
    wanted: Wanted | None = None,
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
    together.shares = _joined([part.shares for part in found])
    return together


def _joined(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The samples behind each other; zero for a sample that took another way around a layer."""
    examples = {name: value for part in found for name, value in part.items()}
    return {
        name: torch.cat([part.get(name, torch.zeros_like(example)) for part in found])
        for name, example in examples.items()
    }


@dataclass(frozen=True)
class Gathered:
    """What was kept of the inputs of the layers of a whole batch.

    Attributes:
        layers: Names of the weights of the L layers.
        norms: Squared norms (B, L) float64, or None when nothing was asked for.
        means: Means (B, channels) by name.
        shares: Shares (B, channels) by name.
    """

    layers: tuple[str, ...] = ()
    norms: Tensor | None = None
    means: Mapping[str, Tensor] = field(default_factory=dict)
    shares: Mapping[str, Tensor] = field(default_factory=dict)


def gathered(parameters: Collection[str], parts: Sequence[LayerInputs]) -> Gathered:
    """What was kept of a batch that was read in parts.

    Args:
        parameters: Names of all parameters, in the order in which the layers are to come.
        parts: What was kept of each part; none when nothing was asked for.

    Raises:
        InputError: There is no layer of a name that was asked for.
        ModelError: The model uses no layer.
    """
    if not parts:
        return Gathered()
    layers = tuple(name for name in parameters if name in parts[0].norms)
    if not layers:
        raise ModelError(
            "there is no weight of a linear or convolution layer among the parameters that are read, so no activations "
            "either; choose other parameters, or leave activations out (activations=False)"
        )
    if missing := {*parts[0].wanted.means, *parts[0].wanted.shares} - {*layers}:
        raise InputError(f"there is no layer {min(missing)!r} to look into; there are: {', '.join(layers)}")
    norms = [torch.stack([exact(part.norms[name]) for name in layers], 1) for part in parts]
    means, shares = (
        {name: torch.cat([of[name] for of in each]) for name in each[0]}
        for each in ([part.means for part in parts], [part.shares for part in parts])
    )
    return Gathered(layers, torch.cat(norms), means, shares)
