"""The fingerprint of images: their pixels and their shape."""

from __future__ import annotations

import hashlib

import torch

from gradiometer.data.hashing import pixels_hash


def test_the_hash_of_images_follows_shape_and_pixels() -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4)
    assert pixels_hash(images) == hashlib.sha256(b"(2, 1, 3, 4)" + bytes(range(24))).hexdigest()
    assert pixels_hash(images.transpose(2, 3).contiguous().transpose(2, 3)) == pixels_hash(images)
    assert pixels_hash(images) != pixels_hash(images.reshape(2, 1, 4, 3))
    assert pixels_hash(images) != pixels_hash(images.flip(0))
