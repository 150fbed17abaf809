"""ExGrad: the L1 norm of the gradient of the last layer that is expected under the prediction, in closed form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pytorch_ood.api import DetectorInfo, Paper, Task
from scipy.special import softmax

from gradiometer.detectors.base import Detector
from gradiometer.detectors.lastlayer import Floats, OnLastLayer
from gradiometer.detectors.registry import register


@register
class ExGrad(OnLastLayer, Detector):
    """Expected L1 norm of the gradient of -log p_k with respect to the weight of the last layer, over classes k ~ p.

    Igoe, Chung, Char and Schneider, "How Useful are Gradients for OOD Detection Really?", 2022, with this sign: an
    uncertain prediction expects large gradients. The sum is 2 ||h||_1 sum_k p_k (1 - p_k) for features h, since
    ||p - onehot(k)||_1 = 2 (1 - p_k).

    Seen: nothing, no fit. Cost: one forward pass. Range: 0 or larger.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="How Useful are Gradients for OOD Detection Really?",
            venue="arXiv",
            year=2022,
            url="https://arxiv.org/abs/2205.10439",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def _of(self, logits: Floats, features: Floats) -> Floats:
        p = softmax(logits, axis=1)
        scores: Floats = 2 * np.abs(features).sum(1) * (p * (1 - p)).sum(1)
        return scores
