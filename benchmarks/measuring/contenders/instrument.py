"""The instrument itself."""

from __future__ import annotations

from torch import Tensor, nn

from gradiometer import Gradiometer
from measuring.contenders.contender import Kind, Run, expected_norms
from measuring.networks import Network


class Instrument:
    """`Gradiometer.squared_norms` of all parameters. The plan is made in the warm-up, once for a shape of input."""

    title = "Gradiometer.squared_norms"
    kind: Kind = "instrument"
    slow = False
    packages: tuple[str, ...] = ("gradiometer",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        meter = Gradiometer(model, network.objective)

        def call() -> Tensor:
            return meter.squared_norms(inputs).values

        return Run(call, expected_norms(model, inputs, network.loss))
