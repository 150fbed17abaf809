"""The record of one awkward network, and the few helpers with which the families of the zoo are written.

A specimen is built the same way every time: seeded, in eval mode, float32, with every constant parameter and every
running statistic moved off its trivial value. Inputs are drawn in float32 and then cast, so that the float64 run of a
network sees exactly the numbers of the float32 run, and one float64 loop serves as the reference of both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Draw = Callable[[int, torch.Generator], Inputs]

BATCH = 3
"""Batch size of the zoo tests. Several networks have a sequence, a window or a table of just this length on purpose."""


@dataclass(frozen=True)
class Specimen:
    """One awkward network.

    Attributes:
        name: Unique name, also the identifier of its tests.
        factory: Builds the raw network; called under a fixed seed.
        draw: Draws a batch of float32 (or int64) inputs from a generator, batch first.
        output: What `Gradiometer(output=...)` gets: None, a key, a position or a callable.
        tags: What is awkward about it. `reconstruction`: outputs have the shape of the inputs and the objective is
            `Reconstruction`. `may_refuse`: the batch is hidden so well that a `ModelError` is as good an answer as the
            right numbers (a wrong number never is). `cancels`: some gradients are zero in exact arithmetic, so that
            what is computed for them is rounding noise.
    """

    name: str
    factory: Callable[[], nn.Module]
    draw: Draw
    output: Callable[[Any], Tensor] | str | int | None = None
    tags: frozenset[str] = field(default_factory=frozenset)

    def build(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Returns a new copy of the network: seeded, eval mode, nothing trivially zero or one."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old spellings (torch.jit, hook-based weight norm) are here on purpose
            torch.manual_seed(1234)
            model = self.factory()
            if "as_built" not in self.tags:
                unsettle(model)
        return model.eval().to(dtype)

    def inputs(self, batch: int = BATCH, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
        """Returns `batch` seeded samples; floating tensors in `dtype`."""
        drawn = self.draw(batch, torch.Generator().manual_seed(4321 + seed))
        return over(drawn, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def over(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Applies a function to every tensor of the inputs."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {key: function(value) for key, value in inputs.items()}
    return tuple(function(value) for value in inputs)


def take(inputs: Inputs, index: Tensor | slice) -> Inputs:
    """Selects samples along the first dimension of every tensor."""
    return over(inputs, lambda tensor: tensor[index])


def samples(inputs: Inputs) -> int:
    """Returns the number of samples."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    return len(next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs)))


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Calls a model: tuples by position, dicts by keyword."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def select(outputs: Any, output: Callable[[Any], Tensor] | str | int | None) -> Tensor:
    """Applies an output selector."""
    if output is None:
        return outputs
    return output(outputs) if callable(output) else outputs[output]


def unsettle(model: nn.Module) -> None:
    """Moves constant parameters and running statistics off their initial zeros and ones, in place."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() == 1 or bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)


def images(*shape: int) -> Draw:
    """Draws standard normal inputs of shape (batch, *shape)."""
    return lambda batch, generator: torch.randn(batch, *shape, generator=generator)


def tokens(length: int, vocabulary: int) -> Draw:
    """Draws int64 token ids of shape (batch, length); repeats within one sample are frequent."""
    return lambda batch, generator: torch.randint(vocabulary, (batch, length), generator=generator)


class Then(nn.Module):
    """Calls modules or plain functions one after the other; the functions own no parameters."""

    def __init__(self, *steps: nn.Module | Callable[..., Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(step for step in steps if isinstance(step, nn.Module))
        self.order = [None if isinstance(step, nn.Module) else step for step in steps]

    def forward(self, *inputs: Any) -> Any:
        """Runs the steps; the first may take several inputs."""
        layers = iter(self.layers)
        value: Any = inputs
        for position, function in enumerate(self.order):
            step = next(layers) if function is None else function
            value = step(*value) if position == 0 else step(value)
        return value


def tagged(*tags: str) -> frozenset[str]:
    """Spells a set of tags."""
    return frozenset(tags)
