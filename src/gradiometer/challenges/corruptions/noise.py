"""Noise: every pixel, or every value of a pixel, on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, Constants, Recipe, single


def gaussian(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Normal noise; the constant is its standard deviation."""
    return images + constants[0] * draws.normal(*images.shape[1:])


def shot(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Photons are counted; the constant is how many make white."""
    return draws.poisson(images * constants[0]) / constants[0]


def impulse(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Salt and pepper; the constant is the share of values that become 0 or 1, each half of the time."""
    hit = draws.uniform(*images.shape[1:]) < constants[0]
    salt = (draws.uniform(*images.shape[1:]) < 0.5).to(images)
    return torch.where(hit, salt, images)


def speckle(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Normal noise that is stronger where the image is brighter; the constant is its deviation at white."""
    return images + images * constants[0] * draws.normal(*images.shape[1:])


RECIPES = (
    Recipe("gaussian_noise", "Gaussian noise", "noise", CIFAR_10_C, single(0.04, 0.06, 0.08, 0.09, 0.10), gaussian),
    Recipe("shot_noise", "Shot noise", "noise", CIFAR_10_C, single(500, 250, 100, 75, 50), shot),
    Recipe("impulse_noise", "Impulse noise", "noise", CIFAR_10_C, single(0.01, 0.02, 0.03, 0.05, 0.07), impulse),
    Recipe("speckle_noise", "Speckle noise", "noise", CIFAR_10_C, single(0.06, 0.1, 0.12, 0.16, 0.2), speckle),
)
"""The noises of CIFAR-10-C."""
