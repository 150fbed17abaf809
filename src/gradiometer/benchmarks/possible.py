"""Which kinds of challenge there can be: none that is the known set itself, no change of colours on grey images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gradiometer.benchmarks.loading import Kit
from gradiometer.errors import InputError


class Change(Protocol):
    """An attack or a corruption."""

    @property
    def colour(self) -> bool:
        """Whether it changes colours and nothing else."""


_Change = TypeVar("_Change", bound=Change)


def others(names: Sequence[str], known: str) -> tuple[list[str], tuple[str, ...]]:
    """Data sets without the known one.

    Args:
        names: Names of data sets.
        known: That of the known one.

    Returns:
        The others, and what there is to say about it.

    Raises:
        InputError: No other is there.

    Example:
        >>> others(["mnist", "gtsrb"], "gtsrb")
        (['mnist'], ('Left out gtsrb: it is the known data.',))
    """
    kept = [name for name in names if name != known]
    if names and not kept:
        raise InputError(f"{known} is the known data and cannot be its own challenge; name another data set")
    return kept, (f"Left out {known}: it is the known data.",) if len(kept) < len(names) else ()


def changing(changes: Sequence[tuple[str, _Change]], kit: Kit) -> tuple[list[tuple[str, _Change]], tuple[str, ...]]:
    """What changes the held-out images, of attacks or corruptions.

    Args:
        changes: Attacks or corruptions, each after what it is called.
        kit: The images.

    Returns:
        Those that can change these images, and what there is to say about it.

    Raises:
        InputError: There is none.
    """
    if kit.held_out.images.shape[1] > 1:
        return list(changes), ()
    kept = [(title, change) for title, change in changes if not change.colour]
    idle = ", ".join(title for title, change in changes if change.colour)
    if changes and not kept:
        raise InputError(f"{idle} would change colours alone, and the images are grey; name something else")
    return kept, (f"Left out {idle}: the images are grey.",) if idle else ()
