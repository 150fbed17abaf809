"""An ordinary training step: what engineers know the price of."""

from __future__ import annotations

from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run
from measuring.networks import Network


class TrainingStep:
    """Forward pass and `loss.backward()` with batched weight gradients, without the step of an optimiser.

    Args:
        train_mode: Whether the network is in train mode, so that batch norm uses and updates the statistics of the
            batch. Without it the network computes what all readings compute, and only this one is the unit of ratios.
    """

    kind: Kind = "bound"
    slow = False
    packages: tuple[str, ...] = ("torch",)

    def __init__(self, *, train_mode: bool) -> None:
        self.train_mode = train_mode
        self.title = f"training step, batch norm in {'train' if train_mode else 'evaluation'} mode"

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        model.train(self.train_mode)

        def call() -> None:
            model.zero_grad(set_to_none=True)
            network.loss(model(inputs), inputs).sum().backward()

        return Run(call, note="forward + loss.backward(), without an optimiser's step")
