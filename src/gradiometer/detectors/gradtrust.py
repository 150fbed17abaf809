"""GradTrust: how much one class stands out among the gradients of the last layer, in closed form."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pytorch_ood.api import DetectorInfo, Paper, Task

from gradiometer.detectors.base import Detector
from gradiometer.detectors.lastlayer import Floats, OnLastLayer
from gradiometer.detectors.registry import register


@register
class GradTrust(OnLastLayer, Detector):
    """Minus the largest over the mean of the variances, class by class, of the squared gradient of the last layer.

    Prabhushankar and AlRegib, "Counterfactual Gradients-based Quantification of Prediction Trust in Neural Networks",
    IEEE MIPR 2024, and the code released with it, where the ratio is the trust: with the squared error between logits
    and 1/C as loss and G its gradient with respect to the weight of the last layer (C, D), e_c is the variance of
    G_cj^2 over the features j, and the trust max_c e_c / mean_c e_c. Meant for finding wrong predictions.

    G_cj is proportional to (z_c - 1/C) h_j, so that the features h cancel and the ratio is that of (z_c - 1/C)^4: the
    score is one of the logits alone. The features are still read, because their layer must be the last.

    Seen: nothing, no fit. Cost: one forward pass. Range: [-C, -1].

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Counterfactual Gradients-based Quantification of Prediction Trust in Neural Networks",
            venue="MIPR",
            year=2024,
            url="https://arxiv.org/abs/2405.13758",
            code="https://github.com/olivesgatech/GradTrust",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def _of(self, logits: Floats, features: Floats) -> Floats:
        away = np.abs(logits - 1 / logits.shape[1])
        largest = away.max(1, keepdims=True)
        # Logits that are all 1/C have no gradient, and no class stands out.
        ratios = np.where(largest > 0, away / np.where(largest > 0, largest, 1.0), 1.0) ** 4
        scores: Floats = -1 / ratios.mean(1)
        return scores
