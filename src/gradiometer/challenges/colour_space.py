"""Hue, saturation and value, and grey, for batches of images."""

from __future__ import annotations

import torch
from torch import Tensor


def to_hsv(images: Tensor) -> Tensor:
    """Red, green and blue as hue, saturation and value.

    Source: Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978, as in `colorsys`.

    Args:
        images: Floating point (B, 3, H, W) in [0, 1].

    Returns:
        The same shape: hue in [0, 1), saturation and value in [0, 1].
    """
    value, largest = images.max(dim=1)
    spread = value - images.min(dim=1).values
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    red, green, blue = images.unbind(dim=1)
    sixths = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4], dim=1)
    hue = sixths.gather(1, largest[:, None])[:, 0] / 6 % 1
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, torch.ones_like(value)), 0)
    return torch.stack([torch.where(spread > 0, hue, 0), saturation, value], dim=1)


def from_hsv(images: Tensor) -> Tensor:
    """Hue, saturation and value as red, green and blue: the inverse of `to_hsv`.

    Args:
        images: (B, 3, H, W); the hue is taken modulo 1.

    Returns:
        The same shape, in [0, 1].
    """
    hue, saturation, value = images.unbind(dim=1)
    # Each channel is the value, less a trapezoid over the circle of hues that starts at its own place.
    places = torch.tensor([5.0, 3.0, 1.0], dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    turned = (places + 6 * hue[:, None]) % 6
    lacking = torch.minimum(turned, 4 - turned).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * lacking)


def grey(images: Tensor) -> Tensor:
    """The brightness by the weights of ITU-R BT.601.

    Args:
        images: (B, K, H, W) with K 1 or 3.

    Returns:
        (B, 1, H, W); grey images as they are.
    """
    if images.shape[1] == 1:
        return images
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
    return (images * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def tint(colour: tuple[float, float, float], images: Tensor) -> Tensor:
    """One colour, ready to be mixed with images.

    Args:
        colour: Red, green and blue in [0, 1].
        images: (B, K, H, W) with K 1 or 3.

    Returns:
        (1, K, 1, 1) in the type of the images; its brightness where they are grey.
    """
    value = torch.tensor(colour, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return value if images.shape[1] == 3 else grey(value)
