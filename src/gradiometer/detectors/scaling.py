"""Logarithms of non-negative statistics, put on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

_BELOW_SMALLEST = 1e-3
"""The floor of a column, as a share of its smallest positive value among the known: seven nats below it."""

_EMPTY = 1e-30
"""The floor of a column that is zero for every known image."""

_CONSTANT = 1e-6
"""Spread of a log below which it is float32 rounding and no information."""


def check_statistics(values: npt.ArrayLike, columns: int | None = None) -> Floats:
    """Turn statistics into a float64 array and refuse what has no logarithm.

    Args:
        values: (N, F), non-negative.
        columns: F that is expected, or None.

    Returns:
        (N, F) float64.

    Raises:
        InputError: Not a matrix, another number of columns, or NaN, infinite or negative values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or (columns is not None and array.shape[1] != columns):
        raise InputError(f"statistics have shape {array.shape}; expected (N, {'F' if columns is None else columns})")
    if not np.isfinite(array).all() or (array < 0).any():
        bad = np.flatnonzero(~np.isfinite(array).all(1) | (array < 0).any(1))
        raise InputError(f"statistics are NaN, infinite or negative in {len(bad)} row(s), the first is row {bad[0]}")
    return array


@dataclass(frozen=True, eq=False)
class LogScale:
    """Standardised logarithms, as learnt from known images.

    Squared norms span many decades across layers and shrink exponentially with confidence, so everything is done on
    logs. A dead layer or a saturated loss gives exact zeros: values below a floor, which is a thousandth of the
    smallest positive value that known images showed in that column, count as the floor.

    Attributes:
        floor: Smallest value that is told apart (F,).
        mean: Mean of the natural log over the known images (F,).
        deviation: Standard deviation of the log (F,); 0 where constant.

    Example:
        >>> scale = LogScale.fit(np.array([[1.0, 5.0], [np.e**2, 5.0]]))
        >>> scale.standardise(np.array([[np.e**2, 5.0]]))  # the constant column is dropped
        array([[1.]])
    """

    floor: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, values: npt.ArrayLike) -> LogScale:
        """Learn the scale of each column from statistics (N, F) of known images.

        Raises:
            InputError: Fewer than two rows, unusable values, or no column that varies.
        """
        array = check_statistics(values)
        if len(array) < 2:
            raise InputError(f"a scale needs two or more known images, there are {len(array)}")
        smallest = np.where(array > 0, array, np.inf).min(0)
        # The smallest normal number keeps the floor itself away from zero.
        floor = np.where(np.isfinite(smallest), np.maximum(smallest * _BELOW_SMALLEST, np.finfo(float).tiny), _EMPTY)
        logs = np.log(np.maximum(array, floor))
        deviation = logs.std(0)
        deviation[deviation < _CONSTANT] = 0.0
        if not deviation.any():
            raise InputError(
                f"none of the {array.shape[1]} statistics varies over {len(array)} known images; are they all the same?"
            )
        return cls(floor, logs.mean(0), deviation)

    def log(self, values: npt.ArrayLike) -> Floats:
        """Natural logs (N, F) of statistics (N, F), floored."""
        logs: Floats = np.log(np.maximum(check_statistics(values, len(self.floor)), self.floor))
        return logs

    def standardise(self, values: npt.ArrayLike) -> Floats:
        """Standardised logs (N, F') of statistics (N, F), without the columns that were constant."""
        kept = self.deviation > 0
        standard: Floats = (self.log(values)[:, kept] - self.mean[kept]) / self.deviation[kept]
        return standard

    def state(self) -> dict[str, Floats]:
        """The arrays that [restore][gradiometer.detectors.scaling.LogScale.restore] takes."""
        return {"floor": self.floor, "mean": self.mean, "deviation": self.deviation}

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[np.generic]]) -> LogScale:
        """Build a scale from its state."""
        return cls(*(np.asarray(state[name], dtype=np.float64) for name in ("floor", "mean", "deviation")))
