"""Fit the constants of the cost model to measured times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from scipy.optimize import least_squares

from gradiometer.gradients.rules import choice, costs


@dataclass(frozen=True)
class Reading:
    """The measured time of one form of one layer.

    Attributes:
        predict: Seconds by the cost model, for what was measured.
        seconds: Measured seconds.
    """

    predict: Callable[[], float]
    seconds: float


@dataclass(frozen=True)
class Fit:
    """Constants of the cost model before and after.

    Attributes:
        before: Constants as they are in the code.
        after: Constants that fit best.
        error_before: Median factor between predicted and measured time before, at least 1.
        error_after: The same after.
    """

    before: dict[str, float]
    after: dict[str, float]
    error_before: float
    error_after: float


def constants() -> dict[str, float]:
    """The measured constants of the cost model: all positive floats in capitals of its module."""
    return {
        name: value for name, value in vars(costs).items() if name.isupper() and isinstance(value, float) and value > 0
    }


@contextmanager
def using(values: Mapping[str, float]) -> Iterator[None]:
    """Let the cost model have other constants for a while."""
    before = constants()
    try:
        _set(values)
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, float]) -> None:
    """Give the cost model constants, and let it forget what it found with others."""
    for name, value in values.items():
        setattr(costs, name, value)
    for remembered in (costs.seconds, costs.tiled_gradient, choice.chosen):
        remembered.cache_clear()


def predicted(readings: Sequence[Reading]) -> list[float]:
    """Seconds by the cost model as it stands."""
    return [reading.predict() for reading in readings]


def fit(readings: Sequence[Reading]) -> Fit:
    """Least squares on the logarithms of times: a factor of two counts the same for cheap and for dear layers.

    A constant that the readings do not determine stays close to what it was. Residuals beyond a factor of e count
    linearly, so that one layer that a form suits badly does not pull the others away.
    """
    before = constants()
    names = list(before)

    def values(logarithms: Sequence[float]) -> dict[str, float]:
        return {name: before[name] * math.exp(value) for name, value in zip(names, logarithms, strict=True)}

    def residuals(logarithms: Sequence[float]) -> list[float]:
        with using(values(logarithms)):
            found = [
                math.log(each / reading.seconds) for each, reading in zip(predicted(readings), readings, strict=True)
            ]
        return found + [1e-3 * value for value in logarithms]

    best = least_squares(residuals, [0.0] * len(names), loss="soft_l1")
    after = values(list(best.x))
    with using(after):
        error_after = _typical_error(readings)
    return Fit(before, after, _typical_error(readings), error_after)


def _typical_error(readings: Sequence[Reading]) -> float:
    pairs = zip(predicted(readings), readings, strict=True)
    return math.exp(median(abs(math.log(each / reading.seconds)) for each, reading in pairs))
