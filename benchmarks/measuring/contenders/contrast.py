"""Every class in turn: what introspection asks for, and the price of it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gradiometer import Gradiometer
from gradiometer.gradients import ContrastClasses
from measuring.contenders.contender import Expected, Kind, Run, chosen
from measuring.networks import Network
from measuring.statistic import SQUARED_NORMS


class Contrast:
    """Squared norms of the gradients for each of the C labels that a class can be, (B, C, T).

    Args:
        grams: Whether they are taken from the Gram matrices of the gradients of the logits.
    """

    kind: Kind = "instrument"
    slow = True
    packages: tuple[str, ...] = ("gradiometer",)

    def __init__(self, *, grams: bool) -> None:
        self.grams = grams
        self.title = "Gradiometer, every class by class Grams" if grams else "Gradiometer, every class in turn"

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        objective = ContrastClasses()
        meter = Gradiometer(model, objective)

        def call() -> Tensor:
            if self.grams:
                return meter.class_grams(inputs).squared_norms(objective).values
            return meter.squared_norms(inputs).values

        plain = copy.deepcopy(model)
        return Run(call, lambda count: _loop(plain, inputs[:count]))


def _loop(model: nn.Module, inputs: Tensor) -> Expected:
    """One forward pass for each sample, and a backward pass for each of its classes."""
    parameters = list(chosen(model).values())
    values, sizes = [], []
    for sample in inputs.split(1):
        negative = -model(sample).log_softmax(1)[0]
        for loss in negative:
            found = torch.autograd.grad(loss, parameters, retain_graph=True)
            gradients = [gradient.unsqueeze(0) for gradient in found]
            values.append(SQUARED_NORMS.of(gradients, []))
            sizes.append(SQUARED_NORMS.sizes(gradients, []))
    shape = len(inputs), -1, len(parameters)
    return Expected(torch.cat(values).view(shape), torch.cat(sizes).view(shape))
