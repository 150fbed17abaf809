"""Normalisation of images inside the model, so that every model takes images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradiometer.errors import InputError

SMALLEST_DEVIATION = 1e-5
"""Floor for the standard deviation of one image: below what a single pixel that is one grey level off produces."""


def check_images(x: Tensor, channels: int, size: int | tuple[int, int] | None = None) -> None:
    """Refuse images that the arithmetic would accept and get wrong (broadcast channels, pixels from 0 to 255).

    Args:
        x: Images (B, K, H, W).
        channels: The K that the model takes.
        size: The height and width that the model takes, one number for a square; any when absent.

    Raises:
        InputError: If `x` is not floating point, or of another shape.
    """
    if not x.is_floating_point():
        raise InputError(f"images must be floating point in [0, 1], got {x.dtype}; convert with images.float() / 255")
    extent = (size, size) if isinstance(size, int) else size
    wanted = (channels, *(("H", "W") if extent is None else extent))
    if x.ndim < 3 or x.shape[-3] != channels or (extent is not None and tuple(x.shape[-2:]) != tuple(extent)):
        shape = ", ".join(map(str, wanted))
        raise InputError(f"this model takes images of shape (B, {shape}), got {tuple(x.shape)}; convert or resize them")


class Normalize(nn.Module):
    """Subtract the mean of each channel and divide by its standard deviation.

    Mean and standard deviation are buffers: they are saved with the weights, so that a stored model is complete.

    Args:
        channels: Number of channels K.
        mean: K means for images in [0, 1]; zeros when absent.
        std: K standard deviations, each above zero; ones when absent.

    Raises:
        InputError: If `mean` or `std` does not have one number for each channel, or `std` is not above zero.

    Example:
        >>> Normalize(1, mean=[0.5], std=[0.25])(torch.full((1, 1, 1, 1), 0.75)).item()
        1.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        means = [0.0] * channels if mean is None else [float(value) for value in mean]
        deviations = [1.0] * channels if std is None else [float(value) for value in std]
        for name, values in (("mean", means), ("std", deviations)):
            if len(values) != channels:
                raise InputError(f"{name} must have one number for each of {channels} channels, got {values}")
        if not all(value > 0 for value in deviations):
            raise InputError(f"std must be above zero for every channel, got {deviations}")
        shape = (1, channels, 1, 1)
        self.register_buffer("mean", torch.tensor(means).view(shape))
        self.register_buffer("std", torch.tensor(deviations).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, K, H, W) in [0, 1] to normalised ones of the same shape.

        Raises:
            InputError: If the images are not floating point or have another number of channels.
        """
        check_images(x, self.mean.shape[1])
        return (x - self.mean) / self.std


class Standardize(nn.Module):
    """Give each channel of each image mean 0 and standard deviation 1, whatever its brightness and contrast.

    A constant channel becomes zero.

    Args:
        channels: Number of channels K.
        size: Height and width of the images; any when absent.

    Example:
        >>> x = Standardize(3)(torch.rand(2, 3, 8, 8))
        >>> bool(torch.allclose(x.std((2, 3)), torch.ones(2, 3)))
        True
    """

    def __init__(self, channels: int, size: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, K, H, W) in [0, 1] to standardised ones of the same shape.

        Raises:
            InputError: If the images are not floating point or have another shape.
        """
        check_images(x, self.channels, self.size)
        centred = x - x.mean((-2, -1), keepdim=True)
        return centred / x.std((-2, -1), keepdim=True).clamp_min(SMALLEST_DEVIATION)


class Normalized(nn.Module):
    """A network behind the normalisation it was trained with.

    Args:
        network: Takes normalised images, returns logits.
        mean: Mean of each channel, for images in [0, 1].
        std: Standard deviation of each channel.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalize = Normalize(len(mean), mean, std)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, K, H, W) in [0, 1]."""
        logits: Tensor = self.network(self.normalize(x))
        return logits
