"""Which kinds of challenge there can be: none that is the known set itself, no change of colours on grey images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from gradiometer.benchmarks.loading import Kit
from gradiometer.errors import InputError

_Kind = TypeVar("_Kind")


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


def changing(
    kinds: Sequence[_Kind], kit: Kit, title: Callable[[_Kind], str], colour: Callable[[_Kind], bool]
) -> tuple[list[_Kind], tuple[str, ...]]:
    """What changes the held-out images, of attacks or corruptions.

    Args:
        kinds: Attacks or corruptions.
        kit: The images.
        title: How one is called.
        colour: Whether one changes colours and nothing else.

    Returns:
        Those that can change these images, and what there is to say about it.

    Raises:
        InputError: There is none.
    """
    if kit.held_out.images.shape[1] > 1:
        return list(kinds), ()
    kept = [kind for kind in kinds if not colour(kind)]
    idle = ", ".join(title(kind) for kind in kinds if colour(kind))
    if kinds and not kept:
        raise InputError(f"{idle} would change colours alone, and the images are grey; name something else")
    return kept, (f"Left out {idle}: the images are grey.",) if idle else ()
