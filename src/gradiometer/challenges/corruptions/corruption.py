"""Corruptions with a level from 1 to 5, by name.

Like the images they stand beside, corrupted images are rounded to 256 levels: an image with finer pixels than any known
one could be told apart by that alone. (The release of CIFAR-10-C cuts off fractions instead, which darkens by half a
level.)
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradiometer.challenges.corruptions import blurs, colours, digital, noise, street, weather
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, CURE_TSR, Recipe
from gradiometer.data import Images, to_bytes
from gradiometer.errors import InputError

CORRUPTIONS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *noise.RECIPES,
        *blurs.RECIPES,
        *weather.RECIPES,
        *colours.RECIPES,
        *digital.RECIPES,
        *street.RECIPES,
    )
}
"""Name -> recipe: the nineteen of CIFAR-10-C and the twelve of CURE-TSR. One more corruption is one more entry.

Blur and snow are in both collections; those of CURE-TSR are called `street_gaussian_blur` and `street_snow`.
"""

PURVIEW_EIGHT: dict[str, dict[str, str]] = {
    "Noise": {CIFAR_10_C: "gaussian_noise", CURE_TSR: "noise"},
    "LensBlur": {CIFAR_10_C: "defocus_blur", CURE_TSR: "lens_blur"},
    "GaussianBlur": {CIFAR_10_C: "gaussian_blur", CURE_TSR: "street_gaussian_blur"},
    "DirtyLens": {CIFAR_10_C: "spatter", CURE_TSR: "dirty_lens"},
    "Exposure": {CIFAR_10_C: "brightness", CURE_TSR: "exposure"},
    "Snow": {CIFAR_10_C: "snow", CURE_TSR: "street_snow"},
    "Haze": {CIFAR_10_C: "fog", CURE_TSR: "haze"},
    "Decolor": {CIFAR_10_C: "saturate", CURE_TSR: "decolorization"},
}
"""The rows of the published table of Purview -> source -> name in `CORRUPTIONS`.

The table gives figures for CIFAR-10-C and for CURE-TSR under the names of CURE-TSR. That exactly these eight of
CIFAR-10-C are meant is the natural reading of it, and a reading.
"""


@dataclass(frozen=True)
class Corruption:
    """One corruption at one level: a callable from images to images.

    Attributes:
        name: Key in `CORRUPTIONS`.
        level: 1 (weak) to 5 (strong).

    Raises:
        InputError: If the name or the level is unknown.

    Example:
        >>> import torch
        >>> haze = Corruption("haze", level=3)
        >>> haze(torch.full((1, 3, 2, 2), 0.5)).shape
        torch.Size([1, 3, 2, 2])
    """

    name: str
    level: int

    def __post_init__(self) -> None:
        """Check name and level.

        Raises:
            InputError: See the class.
        """
        if self.name not in CORRUPTIONS:
            close = difflib.get_close_matches(self.name, CORRUPTIONS, n=2)
            guess = f"did you mean {' or '.join(close)}? There" if close else "there"
            raise InputError(f"unknown corruption {self.name!r}; {guess} are {', '.join(CORRUPTIONS)}")
        if self.level not in range(1, 6):
            raise InputError(f"the level of a corruption is 1, 2, 3, 4 or 5, got {self.level}")

    @property
    def recipe(self) -> Recipe:
        """How it works, and where its constants come from."""
        return CORRUPTIONS[self.name]

    @property
    def colour(self) -> bool:
        """Whether it changes colours and nothing else, and so needs three channels."""
        return self.recipe.colour

    def __call__(self, images: Tensor, seed: int = 0) -> Tensor:
        """Corrupt a batch.

        What is random about it is seeded by each image and by `seed`: an image is corrupted in the same way in any
        batch and order, and images that are equal in 8 bits are corrupted equally.

        Args:
            images: Floating point (B, K, H, W) in [0, 1], K 1 or 3.
            seed: Other seeds give other noise, other drops, other clouds.

        Returns:
            Images of the same shape and type in [0, 1], each pixel a multiple of 1/255.

        Raises:
            InputError: If the images have another type, shape or range, hold NaN, or are grey where the corruption
                changes colours only.
        """
        check_unit(images)
        if images.shape[1] not in (1, 3):
            raise InputError(f"corruptions are for 1 or 3 channels, got {images.shape[1]}")
        recipe = self.recipe
        if self.colour and images.shape[1] == 1:
            raise InputError(f"{self.name} changes colours, but the images are grey; choose another corruption")
        with torch.no_grad():
            changed = recipe.change(images, recipe.levels[self.level - 1], Draws(images, self.name, seed))
            return changed.clamp(0, 1).mul(255).round().div(255)


def corruption(name: str, level: int) -> Corruption:
    """A corruption by name.

    Args:
        name: Key in `CORRUPTIONS`, such as `fog` (CIFAR-10-C) or `haze` (CURE-TSR).
        level: 1 (weak) to 5 (strong).

    Raises:
        InputError: If the name or the level is unknown.

    Example:
        >>> corruption("haze", level=3).recipe.source
        'CURE-TSR'
    """
    return Corruption(name, level)


def gaussian_noise(level: int) -> Corruption:
    """Independent normal noise on every pixel; its standard deviation is 0.04, 0.06, 0.08, 0.09 or 0.10.

    Args:
        level: 1 to 5.

    Raises:
        InputError: If there is no such level.
    """
    return Corruption("gaussian_noise", level)


def gaussian_blur(level: int) -> Corruption:
    """Convolution with a Gaussian; its standard deviation is 0.4, 0.6, 0.7, 0.8 or 1.0 pixels. Edges are repeated.

    Args:
        level: 1 to 5.

    Raises:
        InputError: If there is no such level.
    """
    return Corruption("gaussian_blur", level)


def corrupt(images: Images, corruption: Corruption, *, seed: int = 0, batch_size: int = 256) -> Images:
    """Corrupt images, row by row: labels, names and base images stay, so that a split can keep both versions together.

    Args:
        images: The originals.
        corruption: What to do to them.
        seed: Seeds what is random, together with each image.
        batch_size: Images that are worked on at once. The result is the same for any.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: If the batch size is below 1, or the corruption is not for such images.
    """
    parts = [to_bytes(corruption(batch, seed)) for batch in images.batches(batch_size)]
    return replace(images, images=torch.cat(parts))


def check_unit(images: Tensor) -> None:
    """Refuse anything but floating-point images in [0, 1].

    Args:
        images: To be checked.

    Raises:
        InputError: If type, shape or range is another, or a value is NaN.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            f"images must be floating point (B, channels, height, width), got {images.dtype} {tuple(images.shape)}; "
            "bring 8-bit pixels to [0, 1] with gradiometer.data.to_unit"
        )
    if images.numel() == 0:
        raise InputError(f"there are no images: the shape is {tuple(images.shape)}; give at least one")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        raise InputError(
            f"pixels must lie in [0, 1], got {low:g} to {high:g}; normalisation belongs inside the model, "
            "and NaN must be removed"
        )
