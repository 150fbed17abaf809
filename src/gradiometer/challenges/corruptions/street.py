"""What happens to traffic signs on the road: the twelve challenges of CURE-TSR, imitated on crops.

The originals were made with a video editor on whole frames, before the signs were cut out. Here each is done to the
crop, with constants for crops of 28 to 32 pixels, whose lengths are given as shares of the side where they should grow
with the image. They are alike in kind and in order, not in number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gradiometer.challenges.colour_space import grey, tint
from gradiometer.challenges.corruptions import blurs, digital, filters, noise
from gradiometer.challenges.corruptions.clouds import clouds
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CURE_TSR, Constants, Recipe, single

_DUST = (0.45, 0.41, 0.36)
_RAIN = (0.62, 0.68, 0.78)


def decolorization(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Fading to grey; the constant is how far."""
    return images + constants[0] * (grey(images) - images)


def lens_blur(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """A hexagon instead of every point, the shape of the iris; the constant is its radius in pixels."""
    return filters.correlate(images, filters.hexagon(constants[0]))


def codec_error(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Blocks of another moment, and compression; the constants are how far blocks move, in sides, and the quality.

    The image is divided into four by four blocks, and each shows what lies a random way off.
    """
    reach, quality = constants
    batch, channels, height, width = images.shape
    shift = draws.uniform(2, 4, 4, low=-1, high=1) * reach
    device = images.device
    rows = (
        torch.arange(height, device=device).view(1, -1, 1)
        + (_spread(shift[:, 0], height, width) * height).round().long()
    )
    columns = (
        torch.arange(width, device=device).view(1, 1, -1) + (_spread(shift[:, 1], height, width) * width).round().long()
    )
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    moved = images.flatten(2).gather(2, places.view(batch, 1, -1).expand(-1, channels, -1)).view_as(images)
    return digital.jpeg(moved, (quality,), draws)


def darkening(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Too short an exposure; the constant is the factor."""
    return images * constants[0]


def dirty_lens(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Dust and smears on the lens; the constant is how much they cover.

    Smears are clouds, specks are points that a Gaussian has widened; where they are is random for each image.
    """
    height, width = images.shape[-2:]
    smears = clouds(draws, height, width, 1.6) ** 2
    specks = filters.blur((draws.uniform(1, height, width) < 0.02).to(images), 1.2) * 8
    dirt = constants[0] * (smears + specks).clamp(0, 1)
    return images * (1 - dirt) + dirt * tint(_DUST, images)


def exposure(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Too long an exposure; the constant is in stops, and each doubles the light (linear, by the curve of sRGB)."""
    light = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    light = (light * 2 ** constants[0]).clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-12) ** (1 / 2.4) - 0.055)


def rain(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Streaks, and a bluish veil; the constants are the share of pixels at which a streak begins, and the veil."""
    share, veil = constants
    height, width = images.shape[-2:]
    begins = (draws.uniform(1, height, width) < share).to(images)
    angles = draws.uniform(low=70, high=110)
    streaks = (filters.correlate(begins, filters.motion_kernels(angles, 6, 4.0)) * 4).clamp(0, 1)
    veiled = images + veil * (tint(_RAIN, images) - images)
    return veiled + 0.5 * streaks * (1 - veiled)


def shadow(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Vertical bands of shade, a quarter of the side wide; the constant is how dark they are."""
    width = images.shape[-1]
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    phase = draws.uniform(1)
    shaded = ((2 * columns + phase) % 1 < 0.5).to(images)
    return images * (1 - constants[0] * shaded)[:, None, None, :]


def snow(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """Glow, and flakes; the constants are the glow and the share of pixels at which a flake is."""
    glow, share = constants
    height, width = images.shape[-2:]
    light = filters.blur(images * (images > 0.55).to(images), 2.0)
    shining = 1 - (1 - images) * (1 - glow * light)
    flakes = (filters.blur((draws.uniform(1, height, width) < share).to(images), 0.7) * 3).clamp(0, 1)
    return shining + flakes * (1 - shining)


def haze(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """A light veil, denser towards a vanishing point above the middle; the constant is its density.

    Behind it the image is flatter and a little darker, the more so the denser the veil.
    """
    density = constants[0]
    height, width = images.shape[-2:]
    rows = (torch.arange(height, dtype=images.dtype, device=images.device) + 0.5) / height - 0.35
    columns = (torch.arange(width, dtype=images.dtype, device=images.device) + 0.5) / width - 0.5
    distance = (rows[:, None] ** 2 + columns**2).sqrt()
    veil = density * (1.15 - 0.4 * distance)
    flat = images.mean(dim=(2, 3), keepdim=True)
    behind = (flat + (1 - 0.26 * density) * (images - flat)) * (1 - 0.2 * density)
    return behind + veil * (0.808 - behind)


def _spread(values: Tensor, height: int, width: int) -> Tensor:
    """(B, 4, 4) to the pixels of four by four blocks."""
    return F.interpolate(values[:, None], size=(height, width), mode="nearest")[:, 0]


RECIPES = (
    Recipe(
        "decolorization",
        "Decolorization",
        "colour",
        CURE_TSR,
        single(0.2, 0.4, 0.6, 0.8, 1.0),
        decolorization,
        colour=True,
    ),
    Recipe("lens_blur", "Lens blur", "blur", CURE_TSR, single(0.75, 1.25, 1.75, 2.25, 3.0), lens_blur),
    Recipe(
        "codec_error",
        "Codec error",
        "digital",
        CURE_TSR,
        ((0.03, 40), (0.06, 32), (0.1, 24), (0.15, 16), (0.2, 8)),
        codec_error,
    ),
    Recipe("darkening", "Darkening", "colour", CURE_TSR, single(0.4, 0.32, 0.24, 0.16, 0.08), darkening),
    Recipe("dirty_lens", "Dirty lens", "lens", CURE_TSR, single(0.2, 0.3125, 0.425, 0.5375, 0.65), dirty_lens),
    Recipe("exposure", "Exposure", "colour", CURE_TSR, single(0.5, 1.0, 1.5, 2.0, 2.5), exposure),
    Recipe("street_gaussian_blur", "Gaussian blur", "blur", CURE_TSR, single(0.5, 1.0, 1.5, 2.0, 2.5), blurs.gaussian),
    Recipe("noise", "Noise", "noise", CURE_TSR, single(0.05, 0.10, 0.15, 0.20, 0.25), noise.gaussian),
    Recipe(
        "rain",
        "Rain",
        "weather",
        CURE_TSR,
        ((0.01, 0.05), (0.02, 0.1), (0.04, 0.15), (0.06, 0.2), (0.08, 0.25)),
        rain,
    ),
    Recipe("shadow", "Shadow", "weather", CURE_TSR, single(0.15, 0.3, 0.45, 0.6, 0.75), shadow),
    Recipe(
        "street_snow",
        "Snow",
        "weather",
        CURE_TSR,
        ((0.1, 0.02), (0.2, 0.05), (0.3, 0.09), (0.4, 0.14), (0.5, 0.2)),
        snow,
    ),
    Recipe("haze", "Haze", "weather", CURE_TSR, single(0.1, 0.2, 0.3, 0.4, 0.5), haze),
)
"""The challenges of CURE-TSR, in the order of its numbers 1 to 12."""
