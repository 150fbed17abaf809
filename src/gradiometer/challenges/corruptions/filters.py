"""Filters that several corruptions share. Edges are repeated outwards, so that they work on images of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_weights(deviation: float, truncate: float = 4.0) -> Tensor:
    """A normalised Gaussian, cut off at `truncate` standard deviations, as SciPy and scikit-image do.

    Args:
        deviation: Standard deviation in pixels, above 0.
        truncate: Where to cut off, in standard deviations.

    Returns:
        float64, an odd number of weights.
    """
    radius = int(truncate * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    return torch.softmax(-0.5 * (offsets / deviation) ** 2, dim=0)


def blur(images: Tensor, deviation: float, truncate: float = 4.0) -> Tensor:
    """Convolve with a Gaussian, rows then columns.

    Args:
        images: (B, K, H, W).
        deviation: Standard deviation in pixels.
        truncate: As for `gaussian_weights`.
    """
    weights = gaussian_weights(deviation, truncate).to(images)
    radius, channels = len(weights) // 2, images.shape[1]
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def correlate(images: Tensor, kernels: Tensor) -> Tensor:
    """Slide a kernel over the images; every channel gets the same one.

    Args:
        images: (B, K, H, W).
        kernels: (S, S) for all images, or (B, S, S) with one for each; S odd.
    """
    batch, channels, height, width = images.shape
    radius = kernels.shape[-1] // 2
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    if kernels.ndim == 2:
        kernels = kernels.expand(batch, -1, -1)
    each = kernels.to(images).repeat_interleave(channels, dim=0)[:, None]
    flat = padded.reshape(1, batch * channels, *padded.shape[2:])
    return F.conv2d(flat, each, groups=batch * channels).reshape(batch, channels, height, width)


def disk(radius: float, deviation: float) -> Tensor:
    """A disk of whole pixels, smoothed by a Gaussian of three pixels against its steps.

    Args:
        radius: Pixels whose centre lies at most so far from the middle belong to the disk.
        deviation: Standard deviation of the smoothing in pixels.

    Returns:
        float64 (S, S) that sums to 1.
    """
    reach = int(radius) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    inside = (offsets[:, None] ** 2 + offsets**2 <= radius**2).double()
    weights = torch.softmax(-0.5 * (torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64) / deviation) ** 2, dim=0)
    smooth = F.conv2d(inside[None, None], (weights[:, None] * weights)[None, None], padding=1)[0, 0]
    return smooth / smooth.sum()


def hexagon(radius: float, fineness: int = 9) -> Tensor:
    """A regular hexagon that stands on a corner, the shape of an iris of six blades; its edges are antialiased.

    Args:
        radius: From the middle to a corner, in pixels.
        fineness: Points that are tested along each side of a pixel.

    Returns:
        float64 (S, S) that sums to 1.
    """
    reach = int(radius + 0.5)
    points = (2 * reach + 1) * fineness
    offsets = (torch.arange(points, dtype=torch.float64) + 0.5) / fineness - reach - 0.5
    rows, columns = offsets.abs()[:, None], offsets.abs()
    # The three pairs of sides, each at a distance of cos(30 degrees) times the radius.
    side = radius * 3**0.5 / 2
    inside = ((columns <= side) & (columns / 2 + rows * 3**0.5 / 2 <= side)).double()
    kernel = F.avg_pool2d(inside[None], fineness)[0]
    return kernel / kernel.sum()


def motion_kernels(angles: Tensor, radius: int, deviation: float) -> Tensor:
    """Streaks that begin at a pixel and fade out like half a Gaussian, as those of ImageMagick do.

    Args:
        angles: (B,), in degrees; 0 runs along the rows, 90 down the columns.
        radius: The streak has 2 * radius + 1 pixels.
        deviation: Standard deviation of the Gaussian in pixels.

    Returns:
        float64 (B, S, S), each sums to 1.
    """
    # Beyond five deviations the weights vanish in 8 bits; that spares the rest of the kernel.
    steps = torch.arange(min(2 * radius + 1, int(5 * deviation) + 2), dtype=torch.float64)
    weights = torch.softmax(-0.5 * (steps / deviation) ** 2, dim=0)
    turned = torch.deg2rad(angles.cpu().double())[:, None]
    columns = torch.ceil(steps * torch.cos(turned) - 0.5).long()
    rows = torch.ceil(steps * torch.sin(turned) - 0.5).long()
    reach = len(steps)
    side = 2 * reach + 1
    places = (rows + reach) * side + columns + reach
    flat = torch.zeros(len(angles), side * side, dtype=torch.float64)
    flat.scatter_add_(1, places, weights.expand(len(angles), -1))
    return flat.view(-1, side, side)


def zoom(images: Tensor, factor: float) -> Tensor:
    """Enlarge around the middle by bilinear interpolation and cut off what no longer fits.

    Args:
        images: (B, K, H, W).
        factor: At least 1.
    """
    batch, _, height, width = images.shape
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(matrix.expand(batch, 2, 3), [batch, 1, height, width], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
