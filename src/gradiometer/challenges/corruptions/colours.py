"""Light and colour: brightness, contrast, saturation."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.colour_space import from_hsv, to_hsv
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, Constants, Recipe, single


def brightness(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """The constant is added to the value of hue, saturation and value."""
    if images.shape[1] == 1:
        return images + constants[0]
    hue, saturation, value = to_hsv(images).unbind(dim=1)
    return from_hsv(torch.stack([hue, saturation, (value + constants[0]).clamp(0, 1)], dim=1))


def contrast(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """The constant is the share of each channel's distance to its mean that is left."""
    means = images.mean(dim=(2, 3), keepdim=True)
    return means + constants[0] * (images - means)


def saturate(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """The saturation is multiplied by the first constant, and the second is added."""
    scale, shift = constants
    hue, saturation, value = to_hsv(images).unbind(dim=1)
    return from_hsv(torch.stack([hue, (saturation * scale + shift).clamp(0, 1), value], dim=1))


RECIPES = (
    Recipe("brightness", "Brightness", "colour", CIFAR_10_C, single(0.05, 0.1, 0.15, 0.2, 0.3), brightness),
    Recipe("contrast", "Contrast", "colour", CIFAR_10_C, single(0.75, 0.5, 0.4, 0.3, 0.15), contrast),
    Recipe(
        "saturate",
        "Saturate",
        "colour",
        CIFAR_10_C,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        saturate,
        colour=True,
        uneven="levels 1 and 2 take colour away, 3 to 5 add it",
    ),
)
"""The changes of light and colour of CIFAR-10-C."""
