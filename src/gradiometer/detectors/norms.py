"""Squared norms off the instrument, as columns with names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.layers import layer_of
from gradiometer.gradients import Readings

Floats = npt.NDArray[np.float64]


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
