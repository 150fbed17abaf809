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
from measuring.statistic import SQUARED_NORMS

#: `bound`: not a reading of gradients, what the others are compared with. `instrument`: ours. `peer`: all others.
Kind = Literal["bound", "instrument", "peer"]

#: A note that several peers share.
WEIGHT_GRADIENTS = "forms the batched weight gradients too, which are not needed"


class Unavailable(Exception):
    """A contender cannot run here, or not on this network; the message says why."""


@dataclass(frozen=True)
class Expected:
    """What the plain loop finds for the first n samples.

    Attributes:
        values: The statistic (n, T), or (n, T, 2) for two of them.
        sizes: What a difference is measured by, in the same shape.
    """

    values: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class Run:
    """A contender that is ready to be measured on one network and one batch.

    Attributes:
        call: Does the work once. It returns the statistic (B, T) or (B, T, 2); the sum over parameters (B,) where a
            contender gives no more; None for a bound.
        expected: The statistic of the first n samples by the plain loop on the same network, loss and parameters.
        note: What a reader has to know about this row.
    """

    call: Callable[[], Tensor | None]
    expected: Callable[[int], Expected] | None = None
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


def chosen(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are read, by name: those that require gradients."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def only_squared_norms(network: Network, who: str) -> None:
    """Refuse a network on which something else is read.

    Raises:
        Unavailable: If the statistic is another one.
    """
    if network.statistic is not SQUARED_NORMS:
        raise Unavailable(f"{who} gives squared norms, not {network.statistic.title}")


def loop(network: Network, model: nn.Module, inputs: Tensor, loss: Loss | None = None) -> Expected:
    """The statistic of all parameters that require gradients, one forward and backward pass for each sample."""
    parameters, loss = chosen(model), loss or network.loss
    reference = list(network.reference(parameters).values())
    values, sizes = [], []
    for at in range(len(inputs)):
        sample = inputs[at : at + 1]
        with torch.enable_grad():
            found = torch.autograd.grad(loss(model(sample), sample).sum(), list(parameters.values()))
        gradients = [gradient.unsqueeze(0) for gradient in found]
        values.append(network.statistic.of(gradients, reference))
        sizes.append(network.statistic.sizes(gradients, reference))
    return Expected(torch.cat(values), torch.cat(sizes))


def expected(network: Network, model: nn.Module, inputs: Tensor, loss: Loss | None = None) -> Callable[[int], Expected]:
    """What a contender is checked with: the plain loop, on a copy of the network that nobody has wrapped yet.

    Args:
        network: The network and its task.
        model: The module; parameters that do not require gradients are not read.
        inputs: A batch.
        loss: What is backpropagated, if it is not the task's loss.
    """
    plain = copy.deepcopy(model)
    return lambda count: loop(network, plain, inputs[:count], loss)


def largest_difference(found: Tensor, expected: Expected) -> float:
    """Largest relative difference of a statistic to what the loop finds.

    Args:
        found: The statistic in the shape of the expected one, or squared norms summed over parameters (B,); with at
            least as many samples.
        expected: What the loop finds.
    """
    values, sizes = expected.values.double(), expected.sizes.double()
    found = found.detach().double()[: len(values)]
    if found.ndim == 1:
        values = sizes = values.sum(1)
    return ((found - values).abs() / sizes).max().item()


def frozen(model: nn.Module, *kinds: type[nn.Module]) -> tuple[int, int]:
    """Stop asking for the gradients of some layers.

    Args:
        model: The model.
        kinds: The classes of those layers.

    Returns:
        How many layers of these classes there are, and how many parameter tensors they have.
    """
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    parameters = {parameter for layer in layers for parameter in layer.parameters()}
    for parameter in parameters:
        parameter.requires_grad_(requires_grad=False)
    return len(layers), len(parameters)


def out_of_place(model: nn.Module) -> str:
    """Let activations that change their input in place make a new tensor, as hooks on modules need it.

    Returns:
        A note for the reader, empty if there are none.
    """
    found = [module for module in model.modules() if getattr(module, "inplace", False)]
    for module in found:
        module.inplace = False
    return f"; its hooks need the {len(found)} activations that work in place to make new tensors" if found else ""
