"""Controls of scores of gradients: the same cosine of what can be seen without a backward pass."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from scipy.stats import rankdata
from torch import Tensor

from gradiometer.anomaly import Trained
from gradiometer.anomaly.constraint import SMALLEST
from gradiometer.anomaly.whitening import GREY, Member, Whitened
from gradiometer.benchmarks.metrics import Floats
from gradiometer.gradients.factors import exact

PLAIN = "plain pixels"
"""The control of `gradient`, the cosine with the reference: the cosine of the image with the mean image."""

COLOUR = "mean colour"
"""The same of nothing but the mean of each channel."""

BEYOND = "gradient beyond plain pixels"
"""What is left of `gradient` when what plain pixels say of the same images is taken away."""

WITHOUT: dict[str, tuple[Member, ...]] = {
    "whitened pixels": ("image",),
    "whitened errors": ("error",),
    "aligned without gradient": ("image", "error"),
}
"""Controls of `whitened` and `aligned`, and what their whitened cosines are of."""

NAMES = (PLAIN, COLOUR, *WITHOUT)
"""All that learn from normal images."""


class Control(Protocol):
    """Learns from normal images, and reads others without a gradient."""

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn from normal images, uint8 (N, K, H, W)."""
        ...

    def measure(self, inputs: Tensor) -> Tensor:
        """What is seen of images (B, K, H, W) in [0, 1], one row for each."""
        ...

    def score(self, measured: Floats) -> Floats:
        """Outlier scores (B,) of what was measured."""
        ...


class MeanImage:
    """Minus the cosine between an image less a grey one and the mean of normal images less a grey one.

    An auto-encoder that gives a grey image for everything, as one does before it has learnt anything, has a gradient
    at its last layer that is a linear map of this difference. No network is asked here.

    Args:
        colour: Look at the mean of each channel alone, and not at where it is.
    """

    def __init__(self, *, colour: bool = False) -> None:
        self._colour = colour
        self._mean = torch.zeros(0, dtype=torch.float64)

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn the mean image; all images are taken at once, whatever the batch size."""
        self._mean = self._seen(torch.from_numpy(known) / 255).mean(0)
        return self

    def measure(self, inputs: Tensor) -> Tensor:
        """Cosines (B, 1), 0 where the image or the mean is grey all over."""
        images = self._seen(inputs)
        lengths = (images.norm(dim=1) * self._mean.norm()).clamp_min(SMALLEST)
        cosines: Tensor = images @ self._mean / lengths
        return cosines.unsqueeze(1)

    def score(self, measured: Floats) -> Floats:
        """Outlier scores (B,) in [-1, 1]."""
        scores: Floats = -measured[:, 0]
        return scores

    def _seen(self, images: Tensor) -> Tensor:
        """Images, or their colours, as vectors (B, D) around grey."""
        return exact((images.mean((2, 3)) if self._colour else images).flatten(1)) - GREY


def make_control(name: str, trained: Trained) -> Control:
    """The control of this name, to be fitted.

    Args:
        name: One of `NAMES`.
        trained: The network whose errors may be looked at.
    """
    if name in (PLAIN, COLOUR):
        return MeanImage(colour=name == COLOUR)
    layers = trained.record["recipe"]["constraint"]["layers"]
    return Whitened(trained.network, layers, WITHOUT[name])


def beyond(scores: Floats, control: Floats) -> Floats:
    """What is left of scores (N,) when what a control (N,) says of the same images is taken away.

    The residual of the ranks of the scores after a linear regression on those of the control, over all images at once
    and without their labels.

    Example:
        >>> import numpy as np
        >>> beyond(np.array([1.0, 2.0, 4.0, 9.0]), np.array([0.1, 0.2, 0.3, 0.4])).round(9).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    ours, theirs = (rankdata(values) - (len(values) + 1) / 2 for values in (scores, control))
    spread = theirs @ theirs
    left: Floats = ours - (ours @ theirs / spread if spread else 0.0) * theirs
    return left
