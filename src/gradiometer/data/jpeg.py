"""Saving and loading as JPEG: what a comparison with JPEG images has to do to both sides."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradiometer.data.images import Images
from gradiometer.errors import InputError

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
"""How often colour is stored: for every pixel, for every second one of a row, or for every block of four."""


def reencode(images: Images, quality: int = 75, subsampling: Subsampling = "4:2:0") -> Images:
    """Save images as JPEG at their own size and load them again; labels, names and base images stay.

    A set of images that were JPEG at their own size differs from lossless ones by that alone, and a detector may read
    nothing else. Re-encode both sides in the same way, and the difference is gone; re-encode the known images only, and
    the detector is tested on the compression alone.

    Args:
        images: The originals.
        quality: 1 to 95, as Pillow counts.
        subsampling: How often colour is stored. Grey images have none.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: If quality or subsampling are out of range, or the images have neither 1 nor 3 channels.

    Example:
        >>> from gradiometer.data import load
        >>> digits = load("digits", limit=10)
        >>> again = reencode(digits, quality=75)
        >>> again.names == digits.names, bool((again.images == digits.images).all())
        (True, False)
    """
    return replace(images, images=through_jpeg(images.images, quality, subsampling))


def through_jpeg(pixels: Tensor, quality: int, subsampling: Subsampling = "4:2:0") -> Tensor:
    """The same for bare pixels.

    Args:
        pixels: uint8 (N, K, H, W), K 1 or 3.
        quality: 1 to 95.
        subsampling: How often colour is stored.

    Raises:
        InputError: As `reencode`.
    """
    if not 1 <= quality <= 95:
        raise InputError(f"the quality of a JPEG image is 1 to 95, got {quality}; 75 is usual")
    if subsampling not in get_args(Subsampling):
        raise InputError(f"unknown subsampling {subsampling!r}; there are {', '.join(get_args(Subsampling))}")
    if pixels.ndim != 4 or pixels.dtype != torch.uint8 or pixels.shape[1] not in (1, 3):
        raise InputError(
            f"JPEG stores uint8 images (N, 1 or 3, height, width), got {pixels.dtype} {tuple(pixels.shape)}"
        )
    again = [_again(row, quality, subsampling) for row in pixels.cpu()]
    return torch.stack(again).to(pixels.device)


def _again(pixels: Tensor, quality: int, subsampling: Subsampling) -> Tensor:
    array = pixels[0].numpy() if len(pixels) == 1 else np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    if len(pixels) == 1:
        Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    else:
        Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as image:
        decoded = torch.from_numpy(np.array(image))
    return decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1)
