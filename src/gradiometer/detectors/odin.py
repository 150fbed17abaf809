"""ODIN: the largest softmax probability at a high temperature, after a small step of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
from pytorch_ood.api import DetectorInfo
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional as F

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward, run
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.perturbation import step
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


@register
class ODIN(Detector):
    """Minus the largest softmax probability at temperature T of the input, moved towards its predicted class.

    Liang, Li and Srikant, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks", ICLR
    2018: x' = x - epsilon sign(d CE(z / T, argmax z) / dx), and the probability as confidence. The published grid is
    `hyperparameter_space`; choosing from it with challenges at hand (`pytorch_ood.utils.GridSearch` does) makes the
    protocol `matched`. The step is that of `pytorch_ood.detector.odin_preprocessing`; the softmax is float64 here,
    since at T = 1000 all probabilities are near 1 / C.

    Seen: nothing, no fit. Cost: two forward passes and one backward pass to the input. Range: [-1, -1 / C].

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        temperature: T.
        epsilon: Size of the step, in units of the images. No step for 0.
        deviations: Standard deviation of each channel, where images are normalised before the model sees them.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = pytorch_ood.detector.ODIN.info
    hyperparameter_space: ClassVar[dict[str, list[float]]] = {
        "temperature": [1, 10, 100, 1000],
        "epsilon": [0, 0.0005, 0.001, 0.0014, 0.002, 0.0024, 0.005, 0.01, 0.05, 0.1, 0.2],
    }

    def __init__(
        self,
        model: nn.Module,
        temperature: float = 1000.0,
        epsilon: float = 0.0014,
        deviations: Sequence[float] | None = None,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self.temperature = given.number("temperature", temperature, "a number above 0, such as 1000", above=0)
        self.epsilon = given.number("epsilon", epsilon, "a step of 0 or more, in units of the inputs", least=0)
        self.deviations = None if deviations is None else list(deviations)
        self.output = output

    def _measure(self, inputs: Inputs) -> Measurement:
        outputs = forward(self.model, inputs, self.output)
        moved = inputs
        if self.epsilon:
            moved = step(lambda x: run(self.model, x, self.output), self._loss, inputs, self.epsilon, self.deviations)
        logits = forward(self.model, moved, self.output).cpu().double().numpy()
        return Measurement(outputs, softmax(logits / self.temperature, axis=1), ("probabilities after the step",))

    def _loss(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits / self.temperature, logits.argmax(1), reduction="sum")

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = -statistics.max(1)
        return scores

    def _parameters(self) -> dict[str, Any]:
        names = ("temperature", "epsilon", "deviations", "output")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}
