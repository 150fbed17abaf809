"""GradNorm: the L1 norm of the gradient of the last layer, in closed form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytorch_ood.detector
from pytorch_ood.api import DetectorInfo
from scipy.special import softmax

from gradiometer.detectors.base import Detector
from gradiometer.detectors.lastlayer import Floats, OnLastLayer
from gradiometer.detectors.registry import register


@register
class GradNorm(OnLastLayer, Detector):
    """Minus the L1 norm of the gradient of sum_k -log p_k with respect to the weight of the last layer.

    R. Huang, Geng and Li, "On the Importance of Gradients for Detecting Distributional Shifts in the Wild", NeurIPS
    2021, at temperature 1, who use the norm as confidence. The gradient is the outer product of C p - 1 and the
    features h, so that its norm is ||h||_1 sum_k |C p_k - 1|. `pytorch_ood.detector.GradNorm` backpropagates for the
    C-th part of it, the mean over classes.

    Seen: nothing, no fit. Cost: one forward pass. Range: 0 or smaller.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = pytorch_ood.detector.GradNorm.info

    def _of(self, logits: Floats, features: Floats) -> Floats:
        slope = logits.shape[1] * softmax(logits, axis=1) - 1
        scores: Floats = -np.abs(features).sum(1) * np.abs(slope).sum(1)
        return scores
