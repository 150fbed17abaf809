"""The sum of the squared gradient norms under a confounding label, without a decision network."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
from pytorch_ood.api import DetectorInfo
from torch import nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.gradients import ConfoundingLabel, Gradiometer
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


@register
class GradUncertainty(Detector):
    """Minus the sum over all parameter tensors of the squared gradient norm under the all-ones label on the softmax.

    J. Lee and AlRegib, "Gradients as a Measure of Uncertainty in Neural Networks", ICIP 2020, as pytorch-ood reads it:
    the same readings as Purview's, added up instead of given to a decision network. The sign is that of pytorch-ood
    (this gradient vanishes for a uniform prediction, so that known images tend to have the larger ones); the paper's
    wording has the other. `pytorch_ood.detector.GradUncertainty` gives the same
    numbers as long as no probability underflows, where its loss is cut off; this one reads them with the instrument,
    which needs no (batch x parameters) tensor either.

    Seen: nothing, no fit. Cost: one forward and one backward pass. Range: 0 or smaller.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        output: Where the logits are in what the model returns: a key, a position or a function.
        memory: Working memory that the gradients may take, such as `"512MiB"`; None for no limit of ours.
        batch_size: Samples that go through the model at once.
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = pytorch_ood.detector.GradUncertainty.info

    def __init__(
        self, model: nn.Module, output: Output = None, *, memory: str | int | None = None, batch_size: int = 128
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self.output = output
        self.memory = memory
        self._meter = Gradiometer(model, ConfoundingLabel(reading="softmax"), memory=memory, output=output)

    def _measure(self, inputs: Inputs) -> Measurement:
        readings = self._meter.squared_norms(inputs)
        return Measurement(readings.outputs, readings.values.sum(1, keepdim=True).cpu().numpy(), ("gradient norms",))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = -statistics[:, 0]
        return scores

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"output": encode(self.output), "memory": encode(self.memory)}
