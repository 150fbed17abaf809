"""Purview: how strange the gradients of an input are, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.deciding import Deciding
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.norms import gradient_norms
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.gradients import ConfoundingLabel, Gradiometer, Loss, Objective
from gradiometer.gradients.selection import Output


@register
class Purview(Deciding, Detector):
    """Detector on the squared gradient norms of every parameter tensor, from one forward and one backward pass.

    Without challenges (the known-only protocol) the score is the distance to the k-th nearest known image on
    standardised logs of the gradient norms and, from the same pass, of the activation norms. With challenges it is
    the log-odds of the lecture's decision network H on the same readings (Lee, Lehman, Prabhushankar and AlRegib,
    "Probing the Purview of Neural Networks via Gradient Analysis", IEEE Access 2023).

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        objective: What is backpropagated; `ConfoundingLabel(reading="softmax")` when None, whose readings told more
            challenges apart than those of the logits under both protocols.
        parameters: Globs of the parameter names to read, `"*"` for all.
        activations: Whether to read the activation norms as well.
        layers: Of which layers each channel is read by itself too, its mean over all positions and the share of them at
            which it is above zero, and with them the ten largest softmax probabilities: a number of layers, as in
            Guard, or their names; 0 for none of this. A decision network learns far more from these than from norms
            alone (docs/science/method.md); a density was not found to.
        neighbours: k of the density.
        seed: Of the decision network.
        output: Where the logits are in what the model returns: a key, a position or a function; None for the thing
            itself.
        memory: Working memory that the gradients may take, such as `"512MiB"`; None for no limit of ours.
        batch_size: Samples that go through the model at once.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> known, held_out = torch.randn(100, 4), torch.randn(100, 4)
        >>> detector = Purview(model).fit(known).calibrate(held_out, false_alarm_rate=0.1)
        >>> detector.judge(torch.full((1, 4), 50.0)).trustworthy.tolist()
        [False]
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Probing the Purview of Neural Networks via Gradient Analysis",
            venue="IEEE Access",
            year=2023,
            url="https://arxiv.org/abs/2304.02834",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        model: nn.Module,
        objective: Objective | Loss | None = None,
        parameters: str | Sequence[str] = "*",
        activations: bool = True,
        neighbours: int = 10,
        seed: int = 0,
        output: Output = None,
        *,
        layers: int | Sequence[str] = 0,
        memory: str | int | None = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self._decide_with(layers, neighbours, seed)
        self.objective = ConfoundingLabel(reading="softmax") if objective is None else objective
        self.activations = given.switch("activations", activations)
        self.output = output
        self.memory = memory
        self._meter = Gradiometer(model, self.objective, parameters, memory=memory, output=output)
        self.parameters = parameters if isinstance(parameters, str) else list(parameters)

    def _measure(self, inputs: Inputs) -> Measurement:
        chosen = self._choose(self._meter, inputs)
        readings = self._meter.squared_norms(inputs, activations=self.activations, means=chosen, shares=chosen)
        norms = readings if self.activations else replace(readings, activations=None)
        return self._with_channels(readings, gradient_norms(norms))

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {
            name: encode(getattr(self, name))
            for name in ("objective", "parameters", "activations", "neighbours", "seed", "output", "layers", "memory")
        }
