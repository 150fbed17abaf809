"""Shares of one set, always cut in the same way, so that whoever names the same share gets the same rows."""

from __future__ import annotations

import torch

from gradiometer.data.images import Images
from gradiometer.data.rows import some_rows
from gradiometer.data.splits import split

STEP = 10
"""Shares start and end at multiples of so many percent."""


def share(images: Images, low: int, high: int) -> Images:
    """A share of images, cut base image by base image and class by class.

    Shares of one set that do not overlap have no base image in common, and those from 0 to 100 are together the set.

    Args:
        images: The whole set.
        low: Where the share begins, in percent: a multiple of ten from 0.
        high: Where it ends, likewise, above `low` and at most 100.

    Returns:
        The images, tenth by tenth, each in the order of the set.

    Raises:
        InputError: The set is too small to be cut into tenths.

    Example:
        >>> from gradiometer.data import load
        >>> digits = load("digits")
        >>> len(share(digits, 0, 60)), len(share(digits, 60, 100))
        (1080, 717)
    """
    count = 100 // STEP
    tenths = split(images, {str(part): 1 / count for part in range(count)})
    parts = [tenths[str(part)] for part in range(low // STEP, high // STEP)]
    labels = [part.labels for part in parts if part.labels is not None]
    return Images(
        torch.cat([part.images for part in parts]),
        torch.cat(labels) if labels else None,
        tuple(name for part in parts for name in part.names),
        torch.cat([part.groups for part in parts]),
        images.classes,
    )


def some(images: Images, limit: int | None) -> Images:
    """A fixed random choice of at most so many images, in their order; all of them when the limit is None."""
    if limit is None or limit >= len(images):
        return images
    return images.select(some_rows(len(images), limit))
