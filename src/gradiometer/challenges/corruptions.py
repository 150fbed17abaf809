"""Corruptions with a level from 1 to 5, in the constants of CIFAR-10-C.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019, and its released code. Like the images they stand beside, corrupted images are rounded to 256 levels: an
image with finer pixels than any known one could be told apart by that alone. (The release cuts off fractions instead,
which darkens by half a level.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gradiometer.data import Images, to_bytes
from gradiometer.errors import InputError

Change = Callable[[Tensor, float, Generator | None], Tensor]
"""Images (B, K, H, W) in [0, 1], the constant of the level, a generator or None -> changed images, not yet clipped."""


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
        >>> noise = gaussian_noise(3)
        >>> noise(torch.full((1, 1, 2, 2), 0.5), torch.Generator().manual_seed(0)).shape
        torch.Size([1, 1, 2, 2])
    """

    name: str
    level: int

    def __post_init__(self) -> None:
        """Check name and level.

        Raises:
            InputError: See the class.
        """
        if self.name not in CORRUPTIONS:
            raise InputError(f"unknown corruption {self.name!r}; there are {', '.join(CORRUPTIONS)}")
        if self.level not in range(1, 6):
            raise InputError(f"the level of a corruption is 1, 2, 3, 4 or 5, got {self.level}")

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Corrupt a batch.

        Args:
            images: Floating point (B, K, H, W) in [0, 1].
            generator: What random corruptions draw from; the global one when None.

        Returns:
            Images of the same shape and type in [0, 1], each pixel a multiple of 1/255.

        Raises:
            InputError: If the images have another type, shape or range, or hold NaN.
        """
        check_unit(images)
        recipe = CORRUPTIONS[self.name]
        changed = recipe.change(images, recipe.constants[self.level - 1], generator)
        return changed.clamp(0, 1).mul(255).round().div(255)


@dataclass(frozen=True)
class Recipe:
    """How one corruption works.

    Attributes:
        change: What it does to a batch.
        constants: Its strength at the levels 1 to 5.
    """

    change: Change
    constants: tuple[float, float, float, float, float]


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
        seed: Seeds the noise.
        batch_size: Images that are worked on at once.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: If the batch size is below 1.
    """
    generator = Generator(device=images.images.device).manual_seed(seed)
    parts = [to_bytes(corruption(batch, generator)) for batch in images.batches(batch_size)]
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


def _add_noise(images: Tensor, deviation: float, generator: Generator | None) -> Tensor:
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + deviation * noise


def _blur(images: Tensor, deviation: float, _: Generator | None) -> Tensor:
    """Separable: rows, then columns. Cut off at four standard deviations, as SciPy and scikit-image do."""
    radius = int(4 * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.softmax(-0.5 * (offsets / deviation) ** 2, dim=0).to(images)
    channels = images.shape[1]
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


CORRUPTIONS: dict[str, Recipe] = {
    "gaussian_noise": Recipe(_add_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "gaussian_blur": Recipe(_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
}
"""Name -> recipe. One more corruption is one more entry."""
