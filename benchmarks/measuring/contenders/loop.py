"""One sample at a time: what the published code of the method does."""

from __future__ import annotations

from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, expected_norms, loop
from measuring.networks import Network


class Loop:
    """A forward and a backward pass for every sample."""

    title = "loop over single samples"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("torch",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        expected = expected_norms(model, inputs, network.loss)
        return Run(lambda: loop(model, inputs, network.loss), expected)
