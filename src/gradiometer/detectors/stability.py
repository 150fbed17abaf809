"""How far an input moves in the network when each of its numbers moves by a small amount, up or down at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradiometer.detectors.gaussians import unit
from gradiometer.detectors.inputs import Inputs, leaves, mapped
from gradiometer.detectors.members import PredictedDistance, Views
from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

_STILL = 1e-12
"""Squared distance between unit vectors below which a layer did not move: that of rounding in float32."""


def shaken(inputs: Inputs, step: float, seed: int) -> Inputs | None:
    """Move every floating point number of an input by a step, with one random sign for each place.

    The signs are the same for all samples of a shape, so that a sample moves alike in whatever batch it comes.

    Args:
        inputs: B samples.
        step: Size of the step, in units of the inputs.
        seed: Of the signs.

    Returns:
        The moved inputs; integer tensors, such as tokens, stay. None when nothing is floating point.

    Example:
        >>> shaken(torch.zeros(2, 4), 0.5, seed=0)
        tensor([[-0.5000,  0.5000,  0.5000, -0.5000],
                [-0.5000,  0.5000,  0.5000, -0.5000]])
    """
    if not any(tensor.is_floating_point() for _, tensor in leaves(inputs)):
        return None
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        signs = torch.randint(2, tensor.shape[1:], generator=generator) * 2 - 1
        return tensor + step * signs.to(tensor)

    return mapped(inputs, moved)


def changes(
    logits: npt.ArrayLike,
    layers: Sequence[npt.ArrayLike],
    moved_logits: npt.ArrayLike,
    moved_layers: Sequence[npt.ArrayLike],
) -> Floats:
    """What a step of the inputs changed.

    Args:
        logits: (B, C).
        layers: Pooled inputs (B, channels) of L layers.
        moved_logits: Logits after the step.
        moved_layers: Pooled inputs after the step.

    Returns:
        (B, C + L) float64: the change of the logits, from the class with the largest logit before the step to the one
        with the smallest, and for each layer the squared distance between the pooled inputs, each divided by its norm.
    """
    before, after = (np.asarray(values, dtype=np.float64) for values in (logits, moved_logits))
    order = np.argsort(-before, axis=1, kind="stable")
    distances = [np.square(unit(a) - unit(b)).sum(1) for a, b in zip(layers, moved_layers, strict=True)]
    return np.concatenate([np.take_along_axis(after - before, order, axis=1), np.stack(distances, axis=1)], axis=1)


class ChangeDistance(PredictedDistance):
    """Squared Mahalanobis distance of what a small step of the input changes, to the mean of the predicted class.

    Two-sided: an input that hardly moves, as one that an attack has taken far behind a boundary, is as strange as one
    that moves much. The changes of the logits count as they are, those of the layers by their logs.
    """

    name: ClassVar[str] = "stability"

    @staticmethod
    def _values(views: Views) -> Floats:
        if views.changes is None:
            raise InputError("the views hold no changes under a step of the input; read them after one too")
        logits, layers = np.split(views.changes, [views.logits.shape[1]], axis=1)
        return np.concatenate([logits, np.log(np.maximum(layers, _STILL))], axis=1)
