"""What detectors on the gradient of the last layer share: they need no backward pass.

The gradient of a loss with respect to the weight of the last layer is the outer product of dL/dz (C,) and the features
h (D,), so its norms are products. What these detectors measure is known from the forward pass.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.checks import Output
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.reading import LastLayer
from gradiometer.detectors.samples import Measurement

Floats = npt.NDArray[np.float64]


class OnLastLayer:
    """The part of a detector without a fit that scores logits and features. Goes before Detector among the bases.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    requires_fit = False

    def __init__(self, model: nn.Module, output: Output = None, *, batch_size: int = 128) -> None:
        super().__init__(model, batch_size=batch_size)  # type: ignore[call-arg]
        self.output = output
        self._last = LastLayer(model, output)

    @abstractmethod
    def _of(self, logits: Floats, features: Floats) -> Floats:
        """Outlier scores (B,) of logits (B, C) and the features (B, D) behind them."""

    def _measure(self, inputs: Inputs) -> Measurement:
        logits, features, layer = self._last(inputs)
        scores = self._of(logits.cpu().double().numpy(), features.cpu().double().numpy())
        return Measurement(logits, scores[:, None], (f"last layer {layer}",))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = statistics[:, 0]
        return scores

    def _parameters(self) -> dict[str, Any]:
        inherited: dict[str, Any] = super()._parameters()  # type: ignore[misc]
        return inherited | {"output": encode(self.output)}
