"""Scores of different detectors on one scale: p-values among known images, continued beyond the largest of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

_TAIL = 0.1
"""Share of the known scores that the tail is fitted to."""

FEWEST = 10
"""Known scores below which there is no tail to fit."""


@dataclass(frozen=True, eq=False)
class Tail:
    """Minus the log of the p-value of a score, without an end.

    Up to the 90 % quantile t of the n known scores, p = (#{known >= s} + 1) / (n + 1). Such a p-value ends at
    1 / (n + 1), where all far inputs tie. Beyond t the excesses over t are taken as exponential, the simplest of the
    tails of extreme value theory (Pickands, "Statistical Inference Using Extreme Order Statistics", 1975), so that
    -log p = -log 0.1 + (s - t) / (mean excess of the known scores above t).

    Attributes:
        scores: Known scores (n,), ascending, higher = stranger.

    Raises:
        InputError: Fewer than 10 scores, or scores that are not finite.

    Example:
        >>> tail = Tail(np.arange(100.0))
        >>> np.exp(-tail.surprise(np.array([-1.0, 49.5, 99.0, 109.0]))).round(4).tolist()
        [1.0, 0.505, 0.016, 0.0025]
    """

    scores: Floats

    def __post_init__(self) -> None:
        """Put the scores in order."""
        scores = np.sort(np.asarray(self.scores, dtype=np.float64).reshape(-1))
        if len(scores) < FEWEST or not np.isfinite(scores).all():
            raise InputError(f"{len(scores)} known score(s) make no p-values; give {FEWEST} finite ones or more")
        object.__setattr__(self, "scores", scores)

    @cached_property
    def start(self) -> float:
        """Where the tail begins: t."""
        return float(np.quantile(self.scores, 1 - _TAIL))

    @cached_property
    def excess(self) -> float:
        """Mean excess of the known scores above t; larger than zero."""
        above = self.scores[self.scores > self.start] - self.start
        # Known scores that never vary have no tail: whatever is above them is far out.
        return max(float(above.mean()) if len(above) else 0.0, 1e-9 * (1 + abs(self.start)))

    def surprise(self, scores: npt.ArrayLike) -> Floats:
        """Minus the natural log of the p-value of each score (B,), 0 or larger."""
        values = np.asarray(scores, dtype=np.float64)
        above = len(self.scores) - np.searchsorted(self.scores, values, side="left")
        counted = -np.log((above + 1) / (len(self.scores) + 1))
        beyond = -np.log(_TAIL) + (values - self.start) / self.excess
        surprise: Floats = np.where(values > self.start, beyond, counted)
        return surprise
