"""What handling does to stored images: compression, coarse pixels, elastic warping."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gradiometer.challenges.corruptions import filters
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.challenges.corruptions.recipe import CIFAR_10_C, Constants, Recipe, single
from gradiometer.data import to_bytes, to_unit
from gradiometer.data.jpeg import through_jpeg


def jpeg(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Saved as JPEG and loaded again; the constant is the quality."""
    return to_unit(through_jpeg(to_bytes(images), int(constants[0]))).to(images.dtype)


def pixelate(images: Tensor, constants: Constants, _: Draws) -> Tensor:
    """Shrunk to the given share of height and width and enlarged again, both with the box filter of Pillow."""
    height, width = images.shape[-2:]
    small = max(1, int(width * constants[0])), max(1, int(height * constants[0]))
    rows = [
        np.asarray(
            Image.fromarray(channel).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
        )
        for channel in to_bytes(images).cpu().flatten(0, 1).numpy()
    ]
    return to_unit(torch.from_numpy(np.stack(rows)).view(images.shape)).to(images)


def elastic(images: Tensor, constants: Constants, draws: Draws) -> Tensor:
    """An affine map of three random points, and a smooth random displacement.

    The constants are shares of the image's side: how far the displacement reaches, the deviation of its smoothing, and
    how far the points move. Both maps are composed, so that the image is interpolated once.
    """
    batch, _, height, width = images.shape
    side = min(height, width)
    reach, deviation, jitter = (side * constant for constant in constants)
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    places = torch.stack([columns, rows]).expand(batch, -1, -1, -1)
    if reach > 0:
        noise = draws.uniform(2, height, width, low=-1, high=1).cpu().double()
        places = places + reach * filters.blur(noise, deviation, truncate=3)
    middle, arm = torch.tensor([width // 2, height // 2], dtype=torch.float64), side // 3
    corners = middle + arm * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    moved = corners + draws.uniform(3, 2, low=-jitter, high=jitter).cpu().double()
    ones = torch.ones(batch, 3, 1, dtype=torch.float64)
    if arm > 0:
        # The map from where a point went back to where it was, one 3 x 2 matrix for each image.
        back = torch.linalg.solve(torch.cat([moved, ones], dim=2), corners.expand(batch, 3, 2))
        flat = torch.cat([places.flatten(2).mT, torch.ones(batch, height * width, 1, dtype=torch.float64)], dim=2)
        places = (flat @ back).mT.reshape(batch, 2, height, width)
    size = torch.tensor([width, height], dtype=torch.float64)
    grid = (2 * places.permute(0, 2, 3, 1) + 1) / size - 1
    return F.grid_sample(images, grid.to(images), mode="bilinear", padding_mode="reflection", align_corners=False)


RECIPES = (
    Recipe(
        "elastic_transform",
        "Elastic transform",
        "digital",
        CIFAR_10_C,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        elastic,
        uneven="the displacement gets rougher from level to level, and the affine map weaker, which moves pixels most",
    ),
    Recipe("pixelate", "Pixelate", "digital", CIFAR_10_C, single(0.95, 0.9, 0.85, 0.75, 0.65), pixelate),
    Recipe("jpeg_compression", "JPEG compression", "digital", CIFAR_10_C, single(80, 65, 58, 50, 40), jpeg),
)
"""The digital corruptions of CIFAR-10-C."""
