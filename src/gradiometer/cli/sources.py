"""Naming images on the command line: `SOURCE`, `SOURCE:SPLIT`, `SOURCE@FROM-TO`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli.command import option
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.data import Images

_STEP = 10
"""That of `data.shares`, whose import takes seconds."""

_PATTERN = re.compile(r"(?P<source>.+?)(?::(?P<split>[A-Za-z_]\w*))?(?:@(?P<low>\d+)-(?P<high>\d+))?")
_GROUP = "how images are read"

LIMIT = "at most so many images of each source, a fixed random choice"
"""Help of the option that says so."""

FORMS = (
    "a folder, FILE.npz, FILE.parquet, digits, a torchvision name, or the name of an .npz file in --data-root; with "
    ":SPLIT for its split and @FROM-TO for a share in percent"
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the images of a command are read.

    Attributes:
        data_root: Folder of data sets that are given by name.
        size: Height and width to resize to.
        channels: Channels to convert to.
        download: Whether torchvision may fetch a data set.
    """

    data_root: str | None = option(
        "folder of data sets given by name; the environment variable GRADIOMETER_DATA_ROOT when absent",
        None,
        group=_GROUP,
    )
    size: int | None = option(
        "resize images to SIZE x SIZE pixels; otherwise all must be alike", None, group=_GROUP, least=1
    )
    channels: int | None = option(
        "1 for grey, 3 for colour; that of the first image when absent", None, group=_GROUP, least=1
    )
    download: bool = option("allow torchvision to fetch a data set that is not in --data-root", False, group=_GROUP)

    @property
    def root(self) -> str | None:
        """The folder of data sets that are given by name."""
        return self.data_root or os.environ.get("GRADIOMETER_DATA_ROOT") or None


@dataclass(frozen=True)
class Named:
    """What a name on the command line means.

    Attributes:
        source: Path or name.
        split: Split, or None.
        share: From and to, in percent and multiples of ten, or None for all.
    """

    source: str
    split: str | None = None
    share: tuple[int, int] | None = None


def parse(text: str) -> Named:
    """Take a name apart.

    Args:
        text: Such as `photos`, `cifar10.npz:train`, `digits@0-60`.

    Raises:
        InputError: If the share is not made of tens of percent, or empty.

    Example:
        >>> parse("cifar10.npz:test@50-100")
        Named(source='cifar10.npz', split='test', share=(50, 100))
    """
    match = _PATTERN.fullmatch(text)
    if match is None or Path(text).exists():
        return Named(text)
    share = None
    if match["low"] is not None:
        share = int(match["low"]), int(match["high"])
        if not 0 <= share[0] < share[1] <= 100 or share[0] % _STEP or share[1] % _STEP:
            raise InputError(
                f"the share @{share[0]}-{share[1]} of {text} is not possible; give tens of percent from 0 to 100, such "
                "as @0-60"
            )
    return Named(match["source"], match["split"], share)


def parse_whole(text: str, reader: str) -> Named:
    """Take a name apart, for what cannot read a share.

    Args:
        text: `SOURCE` or `SOURCE:SPLIT`.
        reader: What reads it, and how much, such as `score reads`.

    Raises:
        InputError: As for `parse`, or if there is a share.
    """
    named = parse(text)
    if named.share is not None:
        raise InputError(f"{reader} whole sources, not the share in {text}; leave @ out")
    return named


def load(text: str, reading: Reading, *, limit: int | None = None, shape: Sequence[int] | None = None) -> Images:
    """Load the images that a name means.

    A share is taken base image by base image and class by class, always in the same way: `digits@0-60` and
    `digits@60-100` have no base image in common and together are all digits.

    Args:
        text: The name.
        reading: How to read.
        limit: At most so many images, a fixed random choice.
        shape: Channels, height and width to bring the images to, where `reading` says nothing.

    Raises:
        InputError: If there is no such source, it is too small for the share, or the limit is below 1.
    """
    from gradiometer import data
    from gradiometer.data.folder import SUFFIXES
    from gradiometer.data.shares import share, some

    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give 1 or more")
    named = parse(text)
    size: Any = (reading.size,) * 2 if reading.size else None if shape is None else tuple(shape[1:])
    channels = reading.channels or (None if shape is None else shape[0])
    if Path(named.source).suffix.lower() in SUFFIXES and Path(named.source).is_file():
        return _picture(Path(named.source), size, channels)
    images = data.load(
        named.source,
        split=named.split,
        root=reading.root,
        size=size,
        channels=channels,
        limit=None if named.share else limit,
        download=reading.download,
    )
    if named.share is None:
        return images
    return some(share(images, *named.share), limit)


def count(text: str, reading: Reading) -> int:
    """The number of images that a name means, unreadable ones included.

    Args:
        text: As for `load`.
        reading: How to read.

    Raises:
        InputError: As for `load`.
    """
    from gradiometer import data
    from gradiometer.data.folder import SUFFIXES

    named = parse(text)
    if Path(named.source).suffix.lower() in SUFFIXES and Path(named.source).is_file():
        return 1
    if named.share is not None:  # which is taken of the images that can be read
        return len(load(text, reading))
    return data.count(named.source, split=named.split, root=reading.root, download=reading.download)


def _picture(path: Path, size: tuple[int, int] | None, channels: int | None) -> Images:
    """One file as a set of one image."""
    import torch

    from gradiometer.data import Images
    from gradiometer.data.decode import form_of

    try:
        pixels = form_of(path, size, channels).apply(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return replace(Images.of(torch.tensor(pixels)[None]), names=(str(path),))


def join(parts: Sequence[Images]) -> Images:
    """Several sets of images of one shape as one, without labels, which mean something else in each.

    Args:
        parts: The sets. Base images of two sets are not the same, whatever their numbers.
    """
    import torch

    offset = 0
    groups = []
    for part in parts:
        groups.append(part.groups + offset)
        offset += int(part.groups.max()) + 1
    return replace(
        parts[0],
        images=torch.cat([part.images for part in parts]),
        labels=None,
        names=tuple(name for part in parts for name in part.names),
        groups=torch.cat(groups),
        classes=(),
        failures=tuple(failure for part in parts for failure in part.failures),
    )
