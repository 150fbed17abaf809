"""The reason for a verdict: which readings of an input are out of line with those of known images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.opinions import Opinions

Floats = npt.NDArray[np.float64]

OUT_OF_LINE = 3.5
"""Robust z-score beyond which a reading counts as out of line (Iglewicz and Hoaglin, 1993)."""

_NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""

_LIMIT = 100.0
"""Largest z-score that is told apart; a reading that never varied among the known has no finite one."""


@dataclass(frozen=True, eq=False)
class Profile:
    """Robust z-scores of the readings of a batch.

    Attributes:
        z: (B, P) float64 in [-100, 100]: deviations from the median of the known images, in 1.4826 times their median
            absolute deviation. Positive: the reading is larger than known.
        names: What each column is (P).
        opinions: The p-values of the members, of a detector that has members.
    """

    z: Floats
    names: tuple[str, ...]
    opinions: Opinions | None = None

    def __len__(self) -> int:
        """Number of inputs B."""
        return len(self.z)

    def ranked(self, row: int, top: int = 5) -> list[tuple[str, float]]:
        """The readings of one input that are most out of line, with their z-scores, the worst first."""
        order = np.argsort(-np.abs(self.z[row]), kind="stable")[:top]
        return [(self.names[column], float(self.z[row, column])) for column in order]

    def words(self, row: int, top: int = 5) -> str:
        """Say which readings of one input are out of line.

        Args:
            row: Which input, 0 to B - 1.
            top: Most readings to name.

        Returns:
            One sentence, such as `"2 of 87 readings are out of line: gradient of fc.bias (z = +6.1, larger than
            known), ..."`, after what the members say where there are any.
        """
        said = "" if self.opinions is None else f"{self.opinions.words(row)}; "
        outside = int((np.abs(self.z[row]) > OUT_OF_LINE).sum())
        count = f"{outside or 'none'} of {len(self.names)} readings {'is' if outside < 2 else 'are'} out of line"
        if not outside:
            name, z = self.ranked(row, 1)[0]
            return f"{said}{count}; the farthest is {name} (z = {z:+.1f})"
        shown = [
            f"{name} (z = {z:+.1f}, {'larger' if z > 0 else 'smaller'} than known)"
            for name, z in self.ranked(row, min(top, outside))
        ]
        return f"{said}{count}: {', '.join(shown)}{', ...' if outside > top else ''}"


@dataclass(frozen=True, eq=False)
class Reference:
    """Where known images lie and how much they vary, column by column.

    Attributes:
        median: Median (P,).
        deviation: 1.4826 times the median absolute deviation (P,), or the standard deviation where that is zero.
    """

    median: Floats
    deviation: Floats

    @classmethod
    def fit(cls, values: Floats) -> Reference:
        """Learn from the values (N, P) of known images."""
        median = np.median(values, axis=0)
        deviation = _NORMAL * np.median(np.abs(values - median), axis=0)
        return cls(median, np.where(deviation > 0, deviation, values.std(0)))

    def z(self, values: Floats) -> Floats:
        """Robust z-scores (B, P) of values (B, P), within [-100, 100]."""
        # A column that never varied gives 0 where it is unchanged and the limit where it is not.
        smallest = 1e-9 * (1 + np.abs(self.median))
        scores: Floats = np.clip((values - self.median) / np.maximum(self.deviation, smallest), -_LIMIT, _LIMIT)
        return scores
