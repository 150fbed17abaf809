"""Challenges made of known images: what is wrong with them is nothing that a camera would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.data import Images, to_bytes
from gradiometer.errors import InputError

_TILES = 4
"""Tiles in a row and in a column of a shuffled image."""


def synthetic(images: Images, seed: int = 0) -> Images:
    """Images that are no longer of the known kind, one of three for each in turn.

    Tiles in another order; the mean of the image and another one (as in Zhang et al., "mixup", ICLR 2018); a quarter
    of another one pasted into it (as in Yun et al., "CutMix", ICCV 2019). A detector that learns from them sees nothing
    of a real challenge.

    Args:
        images: Known images, two or more.
        seed: Chooses partners and tiles.

    Returns:
        As many images, in the same order, with the base images of their originals and without labels. The partner
        of an image comes from the same set, so divide base images before, not after.

    Raises:
        InputError: There are fewer than two images, or they have fewer than 4 x 4 pixels.
    """
    count, height, width = len(images), *images.images.shape[-2:]
    if count < 2 or min(height, width) < _TILES:
        raise InputError(f"synthetic challenges need two images of {_TILES} x {_TILES} pixels or more, got {count}")
    order = np.random.default_rng(seed).permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, 1)  # nobody is its own
    made = images.images.clone()
    kinds = torch.arange(count) % 3
    for kind, change in enumerate((_shuffled, _mixed, _pasted)):
        rows = torch.nonzero(kinds == kind)[:, 0]
        for part in rows.split(256):
            own = images.images[part].float() / 255
            other = images.images[torch.from_numpy(partner)[part]].float() / 255
            made[part] = to_bytes(change(own, other, Draws(own, "synthetic", seed)))
    return replace(images, images=made, labels=None, classes=())


def _shuffled(own: Tensor, _: Tensor, draws: Draws) -> Tensor:
    """Tiles in another order; what is left over at the right and at the bottom stays."""
    height, width = (side // _TILES for side in own.shape[-2:])
    corner = own[:, :, : height * _TILES, : width * _TILES]
    tiles = corner.unfold(2, height, height).unfold(3, width, width).flatten(2, 3)
    order = draws.uniform(_TILES * _TILES).argsort(dim=1)
    mixed = tiles.gather(2, order.view(len(own), 1, -1, 1, 1).expand_as(tiles))
    rows = mixed.unflatten(2, (_TILES, _TILES)).permute(0, 1, 2, 4, 3, 5)
    shuffled = own.clone()
    shuffled[:, :, : height * _TILES, : width * _TILES] = rows.reshape(corner.shape)
    return shuffled


def _mixed(own: Tensor, other: Tensor, _: Draws) -> Tensor:
    return (own + other) / 2


def _pasted(own: Tensor, other: Tensor, draws: Draws) -> Tensor:
    """A window of half the side, anywhere."""
    height, width = own.shape[-2:]
    places = draws.uniform(2)
    top = (places[:, :1] * (height - height // 2 + 1)).long()
    left = (places[:, 1:] * (width - width // 2 + 1)).long()
    rows, columns = torch.arange(height), torch.arange(width)
    inside = ((rows >= top) & (rows < top + height // 2))[:, :, None] & (
        (columns >= left) & (columns < left + width // 2)
    )[:, None, :]
    return torch.where(inside[:, None], other, own)
