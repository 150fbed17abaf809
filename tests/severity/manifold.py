"""A manifold of healthy scans with a known distance from it: layers that wave, and lesions of a known severity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gradiometer.data import Images

SIDE = 16
PATIENTS = 4
"""Scans of one patient."""


def scans(count: int, severity: npt.ArrayLike, seed: int) -> Images:
    """Grey scans (count, 1, 16, 16): bright and dark layers at a height and with a contrast of their own, and one spot.

    The spot has the same size everywhere and is as much brighter as the scan is severe, from 0 (healthy) to 1.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    height, contrast = random.uniform(0, 1, (2, count, 1, 1))
    layers = 0.35 + (0.1 + 0.05 * contrast) * np.sin(2 * np.pi * (rows + height))
    places = random.uniform(0.25, 0.75, (2, count, 1, 1))
    spot = np.exp(-((rows - places[0]) ** 2 + (columns - places[1]) ** 2) / 0.02)
    strength = np.broadcast_to(np.asarray(severity, dtype=float), count).reshape(-1, 1, 1)
    noise = random.normal(0, 0.005, layers.shape)
    pixels = np.clip(layers + 0.5 * strength * spot + noise, 0, 1)
    return Images(
        images=torch.from_numpy(np.round(255 * pixels).astype(np.uint8)).unsqueeze(1),
        labels=None,
        names=tuple(f"P{row // PATIENTS:03}_{seed}_{row:03}.png" for row in range(count)),
        groups=torch.arange(count) // PATIENTS,
    )
