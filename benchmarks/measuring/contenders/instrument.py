"""The instrument itself."""

from __future__ import annotations

from torch import Tensor, nn

from gradiometer import Gradiometer
from measuring.contenders.contender import Kind, Run, chosen, expected
from measuring.networks import Network


class Instrument:
    """The network's statistic. The plan is made in the warm-up, once for a shape of input."""

    title = "Gradiometer"
    kind: Kind = "instrument"
    slow = False
    packages: tuple[str, ...] = ("gradiometer",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        parameters = chosen(model)
        meter = Gradiometer(model, network.objective, parameters=list(parameters))
        reference = network.reference(parameters)

        def call() -> Tensor:
            return network.statistic.read(meter, inputs, reference)

        return Run(call, expected(network, model, inputs), f"`Gradiometer.{network.statistic.method}`")
