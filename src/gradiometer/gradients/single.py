"""A single sample: its own backward pass gives every gradient, and no other way to the statistics is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.activations import LayerInputs, Listener, Wanted
from gradiometer.gradients.collector import Reduce, certain
from gradiometer.gradients.factors import Dense
from gradiometer.gradients.loop import gradients_of
from gradiometer.gradients.seeds import check_outputs

#: Types in which a gradient of a weight keeps what a closed form would: shorter ones round it, or leave its range.
TYPES = frozenset({torch.float32, torch.float64})


@dataclass
class Single:
    """A forward pass of one sample, through which backward passes can be sent as through a `Walk`.

    Attributes:
        outputs: The selected outputs (1, ...), without history.
        inputs: What was kept of the inputs of the layers, if asked for.
        looped: No parameter: autograd can read all of them.
        doubtful: Parameters whose statistic may have left the range of float32 on the way.
    """

    outputs: Tensor
    inputs: LayerInputs | None
    looped: set[str] = field(default_factory=set, init=False)
    doubtful: set[str] = field(default_factory=set, init=False)
    _parameters: Mapping[str, Tensor]
    _history: Tensor
    _several: bool

    def every(self, seeds: Tensor, reduce: Reduce, _at_once: int = 1) -> list[dict[str, Tensor]]:
        """The statistic by name for each of several seeds (N, 1, ...)."""
        return [self._backward(seed, reduce, last=number == len(seeds)) for number, seed in enumerate(seeds, 1)]

    def _backward(self, seed: Tensor, reduce: Reduce, *, last: bool) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        gradients = gradients_of(self._history, seed, self._parameters, keep=not last)
        for name, gradient in gradients.items():
            found[name] = reduce(name, Dense(gradient.unsqueeze(0)))
        decisive = {name: each[..., -1] if self._several else each for name, each in found.items()}
        if all(each.ndim == 1 for each in decisive.values()):  # no explicit gradients
            trusted = certain(torch.cat(list(decisive.values()))).tolist()
            self.doubtful |= {
                name for name, sure in zip(decisive, trusted, strict=True) if not sure and bool(gradients[name].any())
            }
        return found


@contextmanager
def single(
    parameters: Mapping[str, Tensor],
    forward: Callable[[Any], Any],
    select: Callable[[Any], Tensor],
    x: Any,
    wanted: Wanted | None = None,
    *,
    several: bool = False,
) -> Iterator[Single]:
    """One forward pass of one sample; the parameters require gradients.

    Args:
        parameters: The parameters to read.
        forward: The model's forward pass.
        select: Picks the outputs that the objective sees.
        x: One sample.
        wanted: What is kept of layer inputs besides their norms; None to keep nothing of them.
        several: Whether a statistic has a last dimension for several of them, the squared norm being the last one.

    Raises:
        ModelError: If the outputs are not finite or have no gradient.
    """
    listener = None if wanted is None else Listener(parameters, wanted)
    with listener or nullcontext():
        raw = forward(x)
    outputs = select(raw)
    check_outputs(outputs.detach())
    inputs = None if listener is None else listener.found
    yield Single(outputs.detach(), inputs, parameters, outputs, several)
