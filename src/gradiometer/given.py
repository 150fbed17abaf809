"""Values that users give, checked before anything is done with them: whole numbers, numbers, switches."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any, SupportsIndex

from gradiometer.errors import InputError


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number, also one of NumPy's.

    Args:
        name: What the user calls it.
        value: What was given.
        least: The smallest that makes sense.
        most: The largest, if there is one.

    Raises:
        InputError: If it is none (text, a fraction, True) or outside.

    Example:
        >>> whole("neighbours", "5")
        Traceback (most recent call last):
        gradiometer.errors.InputError: neighbours is '5'; give a whole number of 1 or more
    """
    fits = isinstance(value, SupportsIndex) and not _is_switch(value)
    if not fits or not least <= operator.index(value) <= (math.inf if most is None else most):
        raise InputError(
            f"{name} is {value!r}; give a whole number "
            + (f"of {least} or more" if most is None else f"from {least} to {most}")
        )
    return operator.index(value)


def number(
    name: str,
    value: Any,
    wanted: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A finite number, also one of NumPy's.

    Args:
        name: What the user calls it.
        value: What was given.
        wanted: What to give instead, as the message says it.
        least: The smallest that makes sense.
        most: The largest.
        above: What it must be above.
        below: What it must be below.

    Raises:
        InputError: If it is none (text, NaN, an infinity, True) or outside.

    Example:
        >>> number("percentile", 1.5, "a share between 0 and 1, such as 0.9", above=0, below=1)
        Traceback (most recent call last):
        gradiometer.errors.InputError: percentile is 1.5; give a share between 0 and 1, such as 0.9
    """
    fits = isinstance(value, Real) and not _is_switch(value) and math.isfinite(value)
    if not fits or not (least <= value <= most and above < value < below):
        raise InputError(f"{name} is {value!r}; give {wanted}")
    return float(value)


def switch(name: str, value: Any) -> bool:
    """True or False, and nothing that would count as one of them.

    Args:
        name: What the user calls it.
        value: What was given.

    Raises:
        InputError: If it is anything else, such as the text "no", which counts as true.
    """
    if not _is_switch(value):
        raise InputError(f"{name} is {value!r}; give True or False")
    return bool(value)


def _is_switch(value: Any) -> bool:
    # By name, so that NumPy, which has its own, need not be loaded for a command's help.
    return type(value).__name__ in ("bool", "bool_")
