"""Dividing images into parts that share no base image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from gradiometer.data.images import Images
from gradiometer.errors import InputError


def split(images: Images, shares: Mapping[str, float], seed: int = 0, *, stratify: bool = True) -> dict[str, Images]:
    """Divide images into parts, base image by base image and class by class.

    Rows of one base image (`groups`) stay together. When there are labels, every class is divided in the same shares:
    to less than one image when every row is its own base image, else as near as whole groups allow. Every part gets
    at least one image of every class.

    Args:
        images: What to divide.
        shares: Name and share of each part, each above 0, together at most 1. What is left over is left out.
        seed: Chooses which base images go where.
        stratify: Whether classes are divided one by one. Without it labels play no role.

    Returns:
        The parts by name, each in the order of the source.

    Raises:
        InputError: If the shares are out of range, a class has no images, or a class has too few images or base
            images for the shares.

    Example:
        >>> from gradiometer.data import load
        >>> parts = split(load("digits"), {"fit": 0.6, "calibrate": 0.2, "test": 0.2})
        >>> {name: len(part) for name, part in parts.items()}
        {'fit': 1078, 'calibrate': 360, 'test': 359}
    """
    _check_shares(shares)
    names = list(shares)
    wanted = np.array([*shares.values(), max(0.0, 1 - sum(shares.values()))])  # the last one is what is left out
    random = np.random.default_rng(seed)
    part = np.empty(len(images), np.int64)
    owed = np.zeros(len(wanted))  # images that the parts lack over all classes so far
    for title, members in _strata(images, stratify):
        _check_stratum(title, members, shares)
        sizes = np.array([len(group) for group in members])
        order = random.permutation(len(members))
        order = order[np.argsort(-sizes[order], kind="stable")]
        target = wanted * sizes.sum()
        got = np.zeros(len(wanted))
        for position, member in enumerate(order):
            empty = np.flatnonzero(got[: len(names)] == 0)
            if len(order) - position <= len(empty):  # the last groups go to parts that would stay without the class
                choice = empty[np.argmax((target - got)[empty])]
            else:
                choice = _choose(target - got, owed + target - got, sizes[member])
            part[members[member]] = choice
            got[choice] += sizes[member]
        owed += target - got
    return {name: images.select(np.flatnonzero(part == number)) for number, name in enumerate(names)}


def _choose(lacking: NDArray[np.float64], owed: NDArray[np.float64], size: int) -> np.intp:
    """The part that the next group goes to, by what the parts lack in this class and over all classes so far."""
    if lacking.max() >= size - 1e-9:  # it fits
        return np.argmax(lacking)
    # What is left after that evens out over the classes, among the parts that still lack something in this one.
    open_parts = np.flatnonzero(lacking > 1e-9)
    return open_parts[np.argmax(owed[open_parts])] if len(open_parts) else np.argmax(lacking)


def _strata(images: Images, stratify: bool) -> Iterator[tuple[str, list[NDArray[np.int64]]]]:
    """Title and base images (the rows of each) of every class; one stratum when classes play no role."""
    groups = images.groups.numpy()
    rows = np.argsort(groups, kind="stable")
    members = np.split(rows, np.flatnonzero(np.diff(groups[rows])) + 1)
    if images.labels is None or not stratify:
        yield "", members
        return
    labels = images.labels.numpy()
    # A base image counts for the class that most of its rows have.
    main = np.array([np.bincount(labels[group]).argmax() for group in members])
    for label in range(max(len(images.classes), int(labels.max()) + 1) if images.classes else 0):
        if not (labels == label).any():
            raise InputError(
                f"class {images.classes[label]!r} (label {label}) has no images; add some, take it out of the classes, "
                "or divide without regard to classes with stratify=False"
            )
    for label in np.unique(main):
        name = f" {images.classes[label]!r}" if images.classes else ""
        yield f"class{name} (label {label})", [members[number] for number in np.flatnonzero(main == label)]


def _check_shares(shares: Mapping[str, float]) -> None:
    if not shares:
        raise InputError("no shares are given; name at least one part, such as {'fit': 0.8, 'test': 0.2}")
    for name, share in shares.items():
        if not (math.isfinite(share) and 0 < share <= 1):
            raise InputError(f"the share {name!r} is {share}; shares are above 0 and at most 1")
    if sum(shares.values()) > 1 + 1e-9:
        raise InputError(f"the shares {dict(shares)} add up to {sum(shares.values()):g}; make that at most 1")


def _check_stratum(title: str, members: list[NDArray[np.int64]], shares: Mapping[str, float]) -> None:
    count = sum(len(group) for group in members)
    what = f"{title} has" if title else "there are"
    way_out = " or pass stratify=False" if title else ""
    name, share = min(shares.items(), key=lambda item: item[1])
    if share * count < 1 - 1e-9:
        raise InputError(
            f"{what} {count} images, too few for the share {name}={share:g} ({share * count:.2g} images); give at "
            f"least {math.ceil(1 / share - 1e-9)} images, raise the share,{way_out}".rstrip(",")
        )
    if len(members) < len(shares):
        raise InputError(
            f"{what} {count} images of {len(members)} base images, too few for {len(shares)} parts that share none; "
            f"give at least {len(shares)} base images{way_out}"
        )
