"""Whether the prediction for an image survives when the image is smoothed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.members import FLOOR, LearnsNothing, Views
from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]


def loss_when_smoothed(logits: npt.ArrayLike, smoothed: npt.ArrayLike) -> Floats:
    """Minus the log of the probability that the smoothed image leaves for the class of the image.

    Args:
        logits: (N, C), of the images.
        smoothed: (N, C), of the same images, smoothed.

    Returns:
        (N,), 0 or larger.
    """
    after = np.asarray(smoothed, dtype=np.float64)
    predicted = np.asarray(logits).argmax(1)[:, None]
    loss: Floats = np.logaddexp.reduce(after, axis=1) - np.take_along_axis(after, predicted, axis=1)[:, 0]
    return loss


class Consistency(LearnsNothing):
    """The loss of the predicted class when the image is smoothed. One-sided.

    High where a prediction hangs on details that a median filter takes away, as attacks add them. Counts twice: once
    leaves attacks that a filter undoes to the other members' indifference.
    """

    name: ClassVar[str] = "consistency"
    weight: ClassVar[int] = 2

    def score(self, views: Views) -> Floats:
        """The loss (N,)."""
        if views.smoothed is None:
            raise InputError("the views hold nothing of smoothed images; read them too")
        return views.smoothed

    def details(self, views: Views) -> Floats:
        """Natural log of the loss (N, 1)."""
        logs: Floats = np.log(np.maximum(self.score(views), FLOOR))[:, None]
        return logs
