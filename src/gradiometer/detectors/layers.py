"""Which layers of a network a detector looks at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gradiometer import given
from gradiometer.errors import InputError


def spread(layers: Sequence[str], chosen: int | Sequence[str]) -> tuple[str, ...]:
    """Choose some layers.

    Args:
        layers: Names of the weights of all layers, in the order of their use.
        chosen: How many, or the names of some weights or layers.

    Returns:
        Names of weights, in the order of their use; the last layer is always among them.

    Raises:
        InputError: A layer that is named is not there.

    Example:
        >>> spread(("stem.weight", "a.weight", "b.weight", "c.weight", "head.weight"), 3)
        ('a.weight', 'c.weight', 'head.weight')
    """
    if isinstance(chosen, int):
        inner = layers[1:] or layers
        places = np.linspace(len(inner) - 1, 0, min(chosen, len(inner))).round().astype(int)
        return tuple(inner[place] for place in sorted({*places.tolist()}))
    missing = [name for name in chosen if name not in layers and f"{name}.weight" not in layers]
    if missing:
        shown = ", ".join(layer_of(name) for name in layers)
        raise InputError(f"the model uses no layer {missing[0]!r}; there are: {shown}")
    return tuple(name for name in layers if name in chosen or layer_of(name) in chosen or name == layers[-1])


def layer_of(weight: str) -> str:
    """Name of the layer that a weight belongs to."""
    return weight.removesuffix(".weight")


def asked(layers: Any, least: int = 1) -> int | list[str]:
    """The argument `layers` of a detector.

    Args:
        layers: How many, or names.
        least: The smallest number that makes sense.

    Raises:
        InputError: If it is neither, or there are too few.
    """
    if isinstance(layers, Iterable) and not isinstance(layers, str):
        names = list(layers)
        if names and all(isinstance(name, str) for name in names):
            return names
    elif not isinstance(layers, str):
        return given.whole("layers", layers, least)
    raise InputError(f"layers is {layers!r}; give a number of {least} or more, or names in a list")
