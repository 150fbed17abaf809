"""Feature squeezing: how far the prediction moves when the image is smoothed."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pytorch_ood.api import DetectorInfo, Paper, Task
from scipy.special import softmax
from torch import nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.detectors.smoothing import smoothed
from gradiometer.errors import InputError
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


def moved_probabilities(logits: npt.ArrayLike, smoothed_logits: npt.ArrayLike) -> Floats:
    """How the softmax probabilities change when images are smoothed, in float64.

    Args:
        logits: (N, C), of the images.
        smoothed_logits: (N, C), of the same images, smoothed.

    Returns:
        (N, C), rows that add up to 0.
    """
    before, after = (softmax(np.asarray(z, dtype=np.float64), axis=1) for z in (logits, smoothed_logits))
    moved: Floats = after - before
    return moved


@register
class FeatureSqueezing(Detector):
    """L1 distance between the softmax probabilities of an image and of the same image, smoothed.

    Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", NDSS 2018, with one
    of its squeezers: a median filter, of 3 x 3 pixels. (They take the largest distance under several, which are chosen
    for the data set.) Made for attacks, whose small changes a filter takes back.

    Seen: nothing, no fit. Cost: two forward passes. Range: [0, 2].

    Args:
        model: Classifier in eval mode that maps images (B, C, H, W) to logits (B, C).
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.

    Raises:
        InputError: At the first batch, if no input is a floating point tensor (B, C, H, W).

    Example:
        >>> import torch
        >>> spot = torch.zeros(1, 1, 4, 4)
        >>> spot[0, 0, 1, 1] = 9.0
        >>> detector = FeatureSqueezing(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval())
        >>> bool(detector.predict(spot) > 0), detector.predict(torch.ones(1, 1, 4, 4)).tolist()
        (True, [0.0])
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
            venue="NDSS",
            year=2018,
            url="https://arxiv.org/abs/1704.01155",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(self, model: nn.Module, output: Output = None, *, batch_size: int = 128) -> None:
        super().__init__(model, batch_size=batch_size)
        self.output = output

    def _measure(self, inputs: Inputs) -> Measurement:
        squeezed = smoothed(inputs)
        if squeezed is None:
            raise InputError(
                "there is no image to smooth; give floating point tensors (B, C, H, W), or take another detector"
            )
        outputs = forward(self.model, inputs, self.output)
        after = forward(self.model, squeezed, self.output)
        moved = moved_probabilities(*(logits.cpu().double().numpy() for logits in (outputs, after)))
        return Measurement(outputs, moved, ("change of the probabilities when smoothed",))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = np.abs(statistics).sum(1)
        return scores

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"output": encode(self.output)}
