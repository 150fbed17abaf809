"""Random numbers that belong to an image, whatever batch it is in."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from torch import Generator, Tensor

from gradiometer.data import to_bytes


class Draws:
    """Random numbers for each image of a batch, seeded by the image itself.

    An image gets the same numbers alone, in another batch, after a selection or a change of order, on another device
    and in another floating-point type. The level plays no role: a stronger noise is the weaker one, scaled up.

    Args:
        images: Floating point (B, K, H, W) in [0, 1]; two images that are equal in 8 bits draw the same numbers.
        name: What the numbers are for; other names give other numbers.
        seed: Other seeds give other numbers.

    Example:
        >>> images = torch.rand(3, 1, 4, 4)
        >>> whole, part = Draws(images, "dust", 0), Draws(images[1:], "dust", 0)
        >>> bool((whole.uniform(5)[1:] == part.uniform(5)).all())
        True
    """

    def __init__(self, images: Tensor, name: str, seed: int) -> None:
        self._images = images
        self._salt = f"{name} {seed} {tuple(images.shape[1:])};".encode()

    @cached_property
    def _generators(self) -> list[Generator]:
        pixels = to_bytes(self._images).cpu().numpy()
        return [Generator().manual_seed(_seed(self._salt, row.tobytes())) for row in pixels]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape) in the type of the images."""
        return self._like([torch.randn(shape, generator=generator) for generator in self._generators])

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers (B, *shape), uniform from `low` to `high`, in the type of the images."""
        numbers = self._like([torch.rand(shape, generator=generator) for generator in self._generators])
        return low + (high - low) * numbers

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers (B, *shape) from `low` to `high` - 1, int64."""
        drawn = [torch.randint(low, high, shape, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(self._images.device)

    def poisson(self, rates: Tensor) -> Tensor:
        """Poisson numbers of the given rates (B, ...), in the type of the images."""
        pairs = zip(rates.float().cpu(), self._generators, strict=True)
        return self._like([torch.poisson(rate, generator=generator) for rate, generator in pairs])

    def _like(self, rows: list[Tensor]) -> Tensor:
        return torch.stack(rows).to(self._images)


def _seed(salt: bytes, pixels: bytes) -> int:
    return int.from_bytes(hashlib.sha256(salt + pixels).digest()[:7], "big")
