"""Controls of scores of gradients: the same cosine of what can be seen without a backward pass."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor

from gradiometer.anomaly import Trained
from gradiometer.anomaly.constraint import SMALLEST
from gradiometer.anomaly.whitening import GREY, Member, Whitened
from gradiometer.benchmarks.metrics import Floats
from gradiometer.gradients.factors import exact

PLAIN = "plain pixels"
"""The control of `gradient`, the cosine with the reference."""

WITHOUT: dict[str, tuple[Member, ...]] = {
    "whitened pixels": ("image",),
    "whitened errors": ("error",),
    "aligned without gradient": ("image", "error"),
}
"""Controls of `whitened` and `aligned`, and what their whitened cosines are of."""

NAMES = (PLAIN, *WITHOUT)


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
    """

    def __init__(self) -> None:
        self._mean = torch.zeros(0, dtype=torch.float64)

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn the mean image; all images are taken at once, whatever the batch size."""
        self._mean = _centred(torch.from_numpy(known) / 255).mean(0)
        return self

    def measure(self, inputs: Tensor) -> Tensor:
        """Cosines (B, 1), 0 where the image or the mean is grey all over."""
        images = _centred(inputs)
        lengths = (images.norm(dim=1) * self._mean.norm()).clamp_min(SMALLEST)
        cosines: Tensor = images @ self._mean / lengths
        return cosines.unsqueeze(1)

    def score(self, measured: Floats) -> Floats:
        """Outlier scores (B,) in [-1, 1]."""
        scores: Floats = -measured[:, 0]
        return scores


def make_control(name: str, trained: Trained) -> Control:
    """The control of this name, to be fitted.

    Args:
        name: One of `NAMES`.
        trained: The network whose errors may be looked at.
    """
    if name == PLAIN:
        return MeanImage()
    layers = trained.record["recipe"]["constraint"]["layers"]
    return Whitened(trained.network, layers, WITHOUT[name])


def _centred(images: Tensor) -> Tensor:
    """Images as vectors (B, D) around grey."""
    return exact(images.flatten(1)) - GREY
