"""Blur: of a lens, of a movement, of a zoom, of rough glass."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.corruptions import filters
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, Constants, Recipe, single


def gaussian(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Convolution with a Gaussian; the constant is its standard deviation in pixels."""
    return filters.blur(images, constants[0])


def defocus(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """A disk instead of every point; the constants are its radius and the smoothing of its edge, in pixels."""
    return filters.correlate(images, filters.disk(*constants))


def motion(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """A streak of random direction, up to 45 degrees from level; the constants are its radius and deviation."""
    radius, deviation = constants
    angles = draws.uniform(low=-45, high=45)
    return filters.correlate(images, filters.motion_kernels(angles, int(radius), deviation))


def zoom(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """The mean of the image and of ever larger ones, in steps of 1 %; the constants are their number and the step."""
    count, step = int(constants[0]), constants[1]
    return torch.stack([images, *(filters.zoom(images, 1 + step * k) for k in range(count))]).mean(dim=0)


def glass(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Blur, exchange of neighbouring pixels, blur; the constants are deviation, reach, and number of rounds."""
    deviation, reach, rounds = constants[0], int(constants[1]), int(constants[2])
    blurred = filters.blur(images, deviation)
    batch, channels, height, width = blurred.shape
    pixels = blurred.permute(2, 3, 0, 1).reshape(height * width, batch, channels)
    image = torch.arange(batch, device=images.device)
    for _ in range(rounds):
        # Both offsets point up and left, or stay, as in the release.
        offsets = draws.integers(-reach, reach, 2, height, width)
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                here = row * width + column
                there = here + offsets[:, 0, row, column] * width + offsets[:, 1, row, column]
                kept = pixels[here].clone()
                pixels[here] = pixels[there, image]
                pixels[there, image] = kept
    mixed = pixels.reshape(height, width, batch, channels).permute(2, 3, 0, 1)
    return filters.blur(mixed, deviation)


RECIPES = (
    Recipe("gaussian_blur", "Gaussian blur", "blur", CIFAR_10_C, single(0.4, 0.6, 0.7, 0.8, 1.0), gaussian),
    Recipe(
        "defocus_blur",
        "Defocus blur",
        "blur",
        CIFAR_10_C,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        defocus,
    ),
    Recipe(
        "motion_blur",
        "Motion blur",
        "blur",
        CIFAR_10_C,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        motion,
        uneven="levels 3 and 4 differ only in where the streak is cut off, and nothing is left of it there",
    ),
    Recipe(
        "zoom_blur",
        "Zoom blur",
        "blur",
        CIFAR_10_C,
        ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        zoom,
    ),
    Recipe(
        "glass_blur",
        "Glass blur",
        "blur",
        CIFAR_10_C,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        glass,
        uneven="the blur of levels 3 and 5 takes back some of the shuffling of the level before",
    ),
)
"""The blurs of CIFAR-10-C."""
