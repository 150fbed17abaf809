"""The forward pass alone: what a prediction costs without any reading."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run
from measuring.networks import Network


class Forward:
    """One forward pass without gradients."""

    title = "forward pass"
    kind: Kind = "bound"
    slow = False
    packages: tuple[str, ...] = ("torch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""

        def call() -> None:
            with torch.no_grad():
                model(inputs)

        return Run(call)
