"""Weather: snow, frost, fog, and drops on the lens."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.colour_space import grey, tint
from gradiometer.challenges.corruptions import filters
from gradiometer.challenges.corruptions.clouds import clouds
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, Constants, Recipe

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)
_FROST = (0.80, 0.88, 0.95)


def snow(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Flakes in motion, over a whitened image.

    Normal noise of the first two constants as mean and deviation is enlarged by the third; what lies above the fourth
    are flakes, which move (radius, deviation) and fall twice, once upside down. The last constant is the share of
    the image that is not whitened.
    """
    mean, deviation, enlarged, threshold, radius, spread, kept = constants
    flakes = filters.zoom(mean + deviation * draws.normal(1, *images.shape[-2:]), enlarged)
    flakes = torch.where(flakes < threshold, 0, flakes).clamp(0, 1)
    angles = draws.uniform(low=-135, high=-45)
    flakes = filters.correlate(flakes, filters.motion_kernels(angles, int(radius), spread))
    white = torch.maximum(images, 1.5 * grey(images) + 0.5)
    return kept * images + (1 - kept) * white + flakes + flakes.rot90(2, dims=(2, 3))


def fog(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Clouds are added and the image dimmed to its range; the constants are their strength and their decay."""
    strength, decay = constants
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    height, width = images.shape[-2:]
    foggy = images + strength * clouds(draws, height, width, decay)
    return foggy * brightest / (brightest + strength)


def frost(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Ice is laid over the image; the constants are the shares of image and ice.

    The release lays photographs of frosted panes over the image. Here the ice is drawn: along the contour lines of two
    clouds, where crystals meet, it is white.
    """
    kept, share = constants
    height, width = images.shape[-2:]
    ice = torch.maximum(_ridges(draws, height, width, 1.4), _ridges(draws, height, width, 1.7))
    return kept * images + share * (0.35 + 0.65 * ice) * tint(_FROST, images)


def spatter(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Drops on the lens: water, which shines, or mud, which covers.

    Normal noise of the first two constants as mean and deviation is blurred by the third; what lies above the fourth
    is liquid. The fifth is the strength of the shine of water, or the blur of the edge of mud; the sixth tells mud (1)
    from water (0). The shine follows the relief of the drops, lit from the upper left; the release derives its relief
    from edges and distances.
    """
    mean, deviation, blurred, threshold, strength, mud = constants
    liquid = filters.blur(mean + deviation * draws.normal(1, *images.shape[-2:]), blurred)
    if mud:
        cover = filters.blur((liquid > threshold).to(images), strength)
        cover = torch.where(cover < 0.8, 0, cover)
        return images * (1 - cover) + cover * tint(_MUD, images)
    drops = torch.where(liquid < threshold, 0, liquid)
    emboss = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
    shine = drops * (1 - filters.correlate(drops, emboss)).clamp(0, 1)
    shine = strength * shine / shine.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
    return images + shine * tint(_WATER, images)


def _ridges(draws: Draws, height: int, width: int, decay: float) -> Tensor:
    return (1 - (2 * clouds(draws, height, width, decay) - 1).abs()) ** 3


RECIPES = (
    Recipe(
        "snow",
        "Snow",
        "weather",
        CIFAR_10_C,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        snow,
    ),
    Recipe(
        "frost",
        "Frost",
        "weather",
        CIFAR_10_C,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        frost,
        uneven="levels 4 and 5 take from the image what the ice adds, which costs contrast and not brightness",
    ),
    Recipe("fog", "Fog", "weather", CIFAR_10_C, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), fog),
    Recipe(
        "spatter",
        "Spatter",
        "weather",
        CIFAR_10_C,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        spatter,
        uneven="levels 1 to 3 are water, 4 and 5 are mud, which covers less",
    ),
)
"""The weather of CIFAR-10-C."""
