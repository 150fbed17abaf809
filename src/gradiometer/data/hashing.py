"""A fingerprint of images."""

from __future__ import annotations

import hashlib

from torch import Tensor


def pixels_hash(images: Tensor) -> str:
    """SHA-256 of the pixels of images, and of their shape."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    digest.update(images.contiguous().numpy().tobytes())
    return digest.hexdigest()
