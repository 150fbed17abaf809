"""One sample at a time: what the published code of the method does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, chosen, expected
from measuring.networks import Network


class Loop:
    """A forward and a backward pass for every sample."""

    title = "loop over single samples"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("torch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        parameters = chosen(model)
        reference = list(network.reference(parameters).values())

        def call() -> Tensor:
            rows = []
            for sample in inputs.split(1):
                found = torch.autograd.grad(network.loss(model(sample), sample).sum(), list(parameters.values()))
                rows.append(network.statistic.alone(found, reference))
            return torch.stack(rows)

        return Run(call, expected(network, model, inputs))
