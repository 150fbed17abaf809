"""What the instrument read, as columns with names: squared norms, single channels of some layers, probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from gradiometer.detectors.layers import layer_of
from gradiometer.gradients import Readings

Floats = npt.NDArray[np.float64]

_ROOM = 1e-3
"""What is added to both sides of the odds of a share, so that 0 and 1 have some: one position in a thousand."""

_PROBABILITIES = 10
"""How many of the largest softmax probabilities are read."""


def gradient_norms(readings: Readings) -> tuple[Floats, tuple[str, ...]]:
    """What `Gradiometer.squared_norms` read.

    Args:
        readings: Of B samples, T tensors and, where they were asked for, L layers; for one label or N.

    Returns:
        (B, L + N T) float64, activations first, and what each column is.
    """
    values = readings.values.cpu().double().numpy()
    names = [f"gradient of {name}" for name in readings.parameters]
    if values.ndim == 3:
        names = [f"{name} for contrast {label}" for label in range(values.shape[1]) for name in names]
        values = values.reshape(len(values), -1)
    if readings.activations is not None:
        values = np.concatenate([readings.activations.cpu().double().numpy(), values], axis=1)
        names = [*(f"activation into {layer_of(name)}" for name in readings.layers), *names]
    return values, tuple(names)


def activation_norms(readings: Readings) -> tuple[Floats, tuple[str, ...]]:
    """What `Gradiometer.activation_norms` read.

    Args:
        readings: Of B samples and L layers.

    Returns:
        (B, L) float64, and what each column is.
    """
    names = tuple(f"activation into {layer_of(name)}" for name in readings.parameters)
    return readings.values.cpu().double().numpy(), names


def channel_columns(readings: Readings) -> tuple[Floats, tuple[str, ...]]:
    """What `Gradiometer.squared_norms` or `activation_norms` read of single channels, and of the outputs.

    Args:
        readings: Of B samples, with logits (B, C) for outputs, and means and shares of some layers.

    Returns:
        (B, F) float64, and what each column is.
    """
    means, shares = (
        {name: values.cpu().double().numpy() for name, values in found.items()}
        for found in (readings.means, readings.shares)
    )
    names = [
        f"{what} of channel {channel} into {layer_of(name)}"
        for what, found in (("mean", means), ("activity", shares))
        for name, values in found.items()
        for channel in range(values.shape[1])
    ]
    channels = channel_statistics([*means.values()], [*shares.values()])
    likely = largest_probabilities(readings.outputs.cpu().double().numpy())
    names += [f"probability {rank}" for rank in range(1, 1 + likely.shape[1])]
    return np.concatenate([channels, likely], axis=1), tuple(names)


def channel_statistics(means: Sequence[npt.NDArray[np.floating]], shares: Sequence[npt.NDArray[np.floating]]) -> Floats:
    """Channels of some layers as statistics whose logarithms say something: squared means, and odds of being active.

    Args:
        means: Mean of each channel over the positions (B, channels), for each layer.
        shares: Share of the positions at which each channel is above zero, in [0, 1], for each layer that has some.

    Returns:
        (B, F) float64, 0 or more; means first.
    """
    squares = [np.square(values.astype(np.float64)) for values in means]
    odds = [(values + _ROOM) / (1 - values + _ROOM) for values in (share.astype(np.float64) for share in shares)]
    return np.concatenate([*squares, *odds], axis=1)


def largest_probabilities(logits: npt.NDArray[np.floating]) -> Floats:
    """The softmax probabilities from the largest on, of whatever classes.

    Args:
        logits: (B, C).

    Returns:
        (B, min(C, 10)) float64, in [0, 1], each row in descending order.
    """
    chances = softmax(logits.astype(np.float64), axis=1)
    return -np.sort(-chances, axis=1)[:, :_PROBABILITIES]
