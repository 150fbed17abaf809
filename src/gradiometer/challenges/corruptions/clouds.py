"""Random clouds: the fractal from which fog and frost are made."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.corruptions.draws import Draws


def clouds(draws: Draws, height: int, width: int, decay: float) -> Tensor:
    """A fractal height map for each image, by midpoint displacement on a torus (the diamond-square algorithm).

    Source: Fournier, Fussell and Carpenter, "Computer Rendering of Stochastic Models", CACM 1982.

    Args:
        draws: The random numbers of each image.
        height: Pixels.
        width: Pixels.
        decay: The amplitude of the displacement is divided by its square whenever the grid is halved, as in the release
            of CIFAR-10-C, where the amplitude is multiplied twice.

    Returns:
        (B, 1, height, width), each from 0 to 1 over the whole square it is cut from.
    """
    side = 1 << max(1, (max(height, width) - 1).bit_length())
    grid = torch.zeros_like(draws.uniform(1, 1))
    amplitude = 1.0
    while grid.shape[-1] < side:
        size = grid.shape[-1]
        pairs = grid + grid.roll(-1, dims=1)
        squares = _displaced((pairs + pairs.roll(-1, dims=2)) / 4, draws, amplitude)
        finer = grid.new_zeros(len(grid), 2 * size, 2 * size)
        finer[:, ::2, ::2], finer[:, 1::2, 1::2] = grid, squares
        # The points between have two neighbours in the old grid and two in the middles of the squares.
        finer[:, ::2, 1::2] = _displaced(
            (grid + grid.roll(-1, dims=2) + squares + squares.roll(1, dims=1)) / 4, draws, amplitude
        )
        finer[:, 1::2, ::2] = _displaced(
            (grid + grid.roll(-1, dims=1) + squares + squares.roll(1, dims=2)) / 4, draws, amplitude
        )
        grid = finer
        amplitude /= decay**2
    low, high = grid.amin(dim=(1, 2), keepdim=True), grid.amax(dim=(1, 2), keepdim=True)
    return ((grid - low) / (high - low).clamp_min(1e-12))[:, None, :height, :width]


def _displaced(means: Tensor, draws: Draws, amplitude: float) -> Tensor:
    return means + amplitude * draws.uniform(*means.shape[1:], low=-1, high=1)
