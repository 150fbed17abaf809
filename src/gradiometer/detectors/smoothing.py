"""Images smoothed by a median filter, to ask a network a second time."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from gradiometer.detectors.inputs import Inputs, leaves, mapped


def smoothed(inputs: Inputs) -> Inputs | None:
    """Replace every pixel of an image by the median of the nine around it, channel by channel.

    The median smoother of feature squeezing (Xu, Evans and Qi, NDSS 2018), with windows of 3 x 3 pixels. Pixels at the
    edges are repeated beyond them.

    Args:
        inputs: B samples.

    Returns:
        The inputs with every floating point tensor (B, C, H, W) smoothed; everything else stays. None when there is no
        such tensor, so that nothing would change.

    Example:
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 1, 1] = 1.0
        >>> smoothed(image).max()
        tensor(0.)
    """
    if not any(_is_image(tensor) for _, tensor in leaves(inputs)):
        return None
    return mapped(inputs, lambda tensor: _median(tensor) if _is_image(tensor) else tensor)


def _is_image(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_floating_point()


def _median(images: Tensor) -> Tensor:
    """The medians of 3 x 3 windows: of columns first, since neighbours share two of three.

    The median of nine is the middle one of the largest low, the middle middle and the smallest high of three sorted
    columns.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    above, here, below = padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :]
    smaller, larger = torch.minimum(above, here), torch.maximum(above, here)
    low, high = torch.minimum(smaller, below), torch.maximum(larger, below)
    middle = torch.maximum(smaller, torch.minimum(larger, below))
    highest, lowest = reduce(torch.maximum, _windows(low)), reduce(torch.minimum, _windows(high))
    return _middle(highest, _middle(*_windows(middle)), lowest)


def _windows(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three columns of every window."""
    return columns[..., :-2], columns[..., 1:-1], columns[..., 2:]


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The middle one of three."""
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
