"""The typed answer of a detector for a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.opinions import Opinions
from gradiometer.detectors.profile import Profile

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the model says about each input, and whether to believe it.

    Attributes:
        predictions: Predicted class (B,) int64, or None when the model is no classifier.
        confidences: Probability that the model gives to that class (B,) float64 in [0, 1], or None likewise.
        scores: Outlier score (B,) float64; higher = less trustworthy.
        p_values: Share of known images that look at least as strange (B,) float64 in (0, 1].
        trustworthy: Whether the p-value is above the false-alarm rate (B,) bool.
        false_alarm_rate: Share of known inputs that are flagged, as chosen at calibration.
        profile: Robust z-scores of the readings (B, P) float64 in [-100, 100].
        names: What each column of the profile is (P).
        opinions: The p-values of the members, of a detector that has members.
    """

    predictions: npt.NDArray[np.int64] | None
    confidences: Floats | None
    scores: Floats
    p_values: Floats
    trustworthy: npt.NDArray[np.bool_]
    false_alarm_rate: float
    profile: Floats
    names: tuple[str, ...]
    opinions: Opinions | None = None

    def __len__(self) -> int:
        """Number of inputs B."""
        return len(self.scores)

    @property
    def reasons(self) -> Profile:
        """The profile with its names, to be ranked or put in words."""
        return Profile(self.profile, self.names, self.opinions)

    def words(self, row: int, top: int = 3) -> str:
        """Say in one sentence what was found for one input, and name the readings that are most out of line."""
        found = "trustworthy" if self.trustworthy[row] else "not trustworthy"
        said = ""
        if self.predictions is not None and self.confidences is not None:
            said = f"class {self.predictions[row]} with confidence {self.confidences[row]:.2f}: "
        return f"{said}{found} (p = {self.p_values[row]:.2g}); {self.reasons.words(row, top)}"
