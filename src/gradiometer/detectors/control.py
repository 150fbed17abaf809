"""The control of Purview: the same decision on what a forward pass alone shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pytorch_ood.api import DetectorInfo, Task
from torch import nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.deciding import Deciding
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.norms import activation_norms
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.gradients import Gradiometer
from gradiometer.gradients.selection import Output


@register
class Control(Deciding, Detector):
    """The decision of Purview on the squared norms of the activations, without any gradient.

    Stands beside every claim about gradients: what Purview finds and this does not is owed to the backward pass.
    Density without challenges, decision network with them; logs, standardisation, split and training are the same.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        parameters: Globs of the names of the weights whose layers are read, `"*"` for all.
        neighbours: k of the density.
        seed: Of the decision network.
        output: Where the logits are in what the model returns, see Purview.
        layers: Of which layers each channel is read by itself too, see Purview.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(tasks={Task.CLASSIFICATION})

    def __init__(
        self,
        model: nn.Module,
        parameters: str | Sequence[str] = "*",
        neighbours: int = 10,
        seed: int = 0,
        output: Output = None,
        *,
        layers: int | Sequence[str] = 0,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self._decide_with(layers, neighbours, seed)
        self.parameters = parameters if isinstance(parameters, str) else list(parameters)
        self.output = output
        self._meter = Gradiometer(model, parameters=self.parameters, output=output)

    def _measure(self, inputs: Inputs) -> Measurement:
        chosen = self._choose(self._meter, inputs)
        readings = self._meter.activation_norms(inputs, means=chosen, shares=chosen)
        return self._with_channels(readings, activation_norms(readings))

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {
            name: encode(getattr(self, name)) for name in ("parameters", "neighbours", "seed", "output", "layers")
        }
