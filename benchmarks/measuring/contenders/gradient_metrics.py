"""gradient-metrics' `GradientMetricCollector`: one backward pass through the whole batch for each of its samples."""

from __future__ import annotations

from torch import Tensor, nn

from measuring.contenders.contender import Kind, Run, Unavailable, chosen, expected, only_squared_norms
from measuring.networks import Network


class Collector:
    """A `PNorm` with p = 2 for each parameter tensor, squared."""

    title = "gradient-metrics"
    kind: Kind = "peer"
    slow = True
    packages: tuple[str, ...] = ("gradient-metrics",)

    def prepare(self, network: Network, model: nn.Module, inputs: Tensor) -> Run:
        """See `Contender`."""
        only_squared_norms(network, "gradient-metrics")
        try:
            from gradient_metrics import GradientMetricCollector
            from gradient_metrics.metrics import PNorm
        except ImportError as error:
            raise Unavailable(f"gradient-metrics is not installed, it needs Python below 3.12: {error}") from error
        collector = GradientMetricCollector([PNorm(parameter, p=2) for parameter in chosen(model).values()])

        def call() -> Tensor:
            norms: Tensor = collector(network.loss(model(inputs), inputs))
            return norms.square()

        note = "as documented, on the whole batch: the backward pass of each sample goes through all samples"
        return Run(call, expected(network, model, inputs), note)
