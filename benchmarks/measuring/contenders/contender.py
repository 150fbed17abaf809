"""What a contender is, and what adapters share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from gradiometer.gradients import Loss
from measuring.networks import Network

#: `bound`: not a reading of gradients, what the others are compared with. `instrument`: ours. `peer`: all others.
Kind = Literal["bound", "instrument", "peer"]

#: A note that several peers share.
WEIGHT_GRADIENTS = "forms the batched weight gradients too, which it does not need for the norms"


class Unavailable(Exception):
    """A contender cannot run here, or not on this network; the message says why."""


@dataclass(frozen=True)
class Run:
    """A contender that is ready to be measured on one network and one batch.

    Attributes:
        call: Does the work once. It returns squared norms (B, T) or, where the contender gives only their sum over
            parameters, (B,); None for a bound.
        expected: Squared norms (n, T) of the first n samples by the plain loop on the same network, loss and
            parameters.
        note: What a reader has to know about this row.
    """

    call: Callable[[], Tensor | None]
    expected: Callable[[int], Tensor] | None = None
    note: str = ""


class Contender(Protocol):
    """One way to read gradients, or a bound: what an adapter provides.

    Attributes:
        title: Its name in tables.
        kind: Its kind.
        slow: Whether it is measured with fewer repeats.
        packages: Distributions whose versions matter.
    """

    title: str
    kind: Kind
    slow: bool
    packages: tuple[str, ...]

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """Do everything that is done once for a network: import, wrap, register.

        Args:
            network: The network and its task.
            model: A copy of the module, in evaluation mode, that belongs to this contender.
            inputs: A batch.

        Raises:
            Unavailable: If the contender cannot run.
        """
        ...


def loop(model: nn.Module, inputs: Tensor, loss: Loss) -> Tensor:
    """Squared norms (B, T) of all parameters that require gradients, one forward and backward pass for each sample."""
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows = []
    for at in range(len(inputs)):
        sample = inputs[at : at + 1]
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(model(sample), sample).sum(), chosen)
        rows.append(torch.stack([gradient.square().sum() for gradient in gradients]))
    return torch.stack(rows)


def expected_norms(model: nn.Module, inputs: Tensor, loss: Loss) -> Callable[[int], Tensor]:
    """What a contender is checked with: the plain loop, on a copy of the network that nobody has wrapped yet."""
    plain = copy.deepcopy(model)
    return lambda count: loop(plain, inputs[:count], loss)


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Largest relative difference of squared norms.

    Entries below a millionth of their sample's sum are compared with that millionth: they are rounding themselves.

    Args:
        found: (B, T) or (B,), with B at least n.
        expected: (n, T).
    """
    expected, found = expected.detach().double(), found.detach().double()[: len(expected)]
    total = expected.sum(1, keepdim=True)
    if found.ndim == 1:
        found, expected = found.unsqueeze(1), total
    return ((found - expected).abs() / torch.maximum(expected, 1e-6 * total)).max().item()
