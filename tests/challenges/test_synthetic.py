"""Challenges made of known images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradiometer.challenges import synthetic
from gradiometer.data import Images
from gradiometer.errors import InputError


@pytest.fixture
def known() -> Images:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (30, 3, 10, 9), dtype=np.uint8))
    return Images.of(pixels, labels=torch.zeros(30, dtype=torch.int64))


def test_every_image_is_changed_and_keeps_its_base_image(known):
    made = synthetic(known)
    assert made.images.shape == known.images.shape
    assert made.labels is None
    assert torch.equal(made.groups, known.groups)
    assert not (made.images == known.images).flatten(1).all(1).any()
    assert torch.equal(made.images, synthetic(known).images)
    assert not torch.equal(made.images, synthetic(known, seed=1).images)


def test_tiles_are_moved_whole(known):
    made = synthetic(known).images[::3]
    # 10 x 9 pixels hold 4 x 4 tiles of 2 x 2; two rows and a column are left over and stay.
    assert torch.equal(made[:, :, 8:], known.images[::3, :, 8:])
    assert torch.equal(made[:, :, :, 8:], known.images[::3, :, :, 8:])
    for before, after in zip(known.images[::3], made, strict=True):
        tiles = [
            sorted(
                tuple(image[:, r : r + 2, c : c + 2].flatten().tolist()) for r in range(0, 8, 2) for c in range(0, 8, 2)
            )
            for image in (before, after)
        ]
        assert tiles[0] == tiles[1]


def test_mixed_and_pasted_images_are_made_of_two(known):
    made = synthetic(known).images
    for row in range(1, 30, 3):
        halves = [(known.images[row].float() + other.float()) / 2 for other in known.images]
        assert min(float((made[row].float() - half).abs().max()) for half in halves) <= 0.5
    for row in range(2, 30, 3):
        changed = (made[row] != known.images[row]).any(0)
        assert 0 < int(changed.sum()) <= 5 * 4


def test_too_few_or_too_small_images_are_refused(known):
    with pytest.raises(InputError, match="two images"):
        synthetic(known.select([0]))
    with pytest.raises(InputError, match="two images"):
        synthetic(Images.of(torch.zeros(5, 1, 3, 8, dtype=torch.uint8)))
