"""Split-conformal calibration: a false-alarm rate that the user chooses and that holds.

If a new known image is exchangeable with the n calibration images (drawn the same way, and none of them used to fit),
then its p-value p = (#{calibration scores >= score} + 1) / (n + 1) is at most a with a probability of at most a, for
every a (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2). Flagging the images
with p <= a hence raises false alarms at a rate of a at most, on average over calibration sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real

import numpy as np
import numpy.typing as npt
from scipy import stats

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_LEAST = 1e-12
"""Lowest rate: nobody has more images than its inverse."""


def images_needed(false_alarm_rate: float) -> int:
    """Fewest calibration images with which any image can be flagged: 1 / rate - 1, rounded up.

    Args:
        false_alarm_rate: Between 0 and 1.

    Returns:
        The smallest n with 1 / (n + 1) <= rate.

    Raises:
        InputError: The rate is not between 0 and 1.

    Example:
        >>> images_needed(0.05), images_needed(0.001)
        (19, 999)
    """
    if not isinstance(false_alarm_rate, Real) or not _LEAST <= false_alarm_rate < 1:
        raise InputError(f"false_alarm_rate is {false_alarm_rate!r}; give a share between 0 and 1, such as 0.05")
    # 1 / rate may round to either side of a whole number; the p-value itself decides.
    count = max(1, int(1 / false_alarm_rate) - 2)
    while 1 / (count + 1) > false_alarm_rate:
        count += 1
    return count


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of known images that the detector was not fitted on.

    Attributes:
        scores: The scores (n,), ascending, float64.
        false_alarm_rate: Share of known images that may be flagged.
        predictions: Predicted class of each (n,), in the same order, or empty where they are not known.

    Raises:
        InputError: Scores that are not finite, or fewer than 1 / rate - 1.

    Example:
        >>> calibration = Calibration(np.arange(1.0, 40.0), false_alarm_rate=0.05)
        >>> calibration.p_values([0.0, 38.0, 38.5]).tolist()
        [1.0, 0.075, 0.05]
        >>> calibration.flagged([0.0, 38.0, 38.5]).tolist(), calibration.threshold
        ([False, False, True], 38.0)
    """

    scores: Floats
    false_alarm_rate: float = 0.05
    predictions: Integers = field(default_factory=lambda: np.empty(0, dtype=np.int64), repr=False)

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores, dtype=np.float64).reshape(-1)
        needed = images_needed(self.false_alarm_rate)
        if not np.isfinite(scores).all():
            raise InputError(f"{np.count_nonzero(~np.isfinite(scores))} calibration score(s) are NaN or infinite")
        if len(scores) < needed:
            raise InputError(
                f"a false-alarm rate of {self.false_alarm_rate} needs at least {needed} calibration images, there are "
                f"{len(scores)}; give more, or choose a rate of {1 / (len(scores) + 1):.2g} or more"
            )
        if len(self.predictions) not in (0, len(scores)):
            raise InputError(f"{len(self.predictions)} predictions for {len(scores)} scores; give one for each")
        order = np.argsort(scores, kind="stable")
        object.__setattr__(self, "scores", scores[order])
        if len(self.predictions):
            object.__setattr__(self, "predictions", np.asarray(self.predictions, dtype=np.int64)[order])

    def __len__(self) -> int:
        """Number of calibration images n."""
        return len(self.scores)

    def p_values(self, scores: npt.ArrayLike) -> Floats:
        """Share of known images that look at least as strange: (#{calibration >= score} + 1) / (n + 1).

        Args:
            scores: (B,) of any images.

        Returns:
            (B,) in [1 / (n + 1), 1].
        """
        above = len(self) - np.searchsorted(self.scores, np.asarray(scores, dtype=np.float64), side="left")
        values: Floats = (above + 1) / (len(self) + 1)
        return values

    def flagged(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the p-value of each score (B,) is at most the false-alarm rate."""
        flags: npt.NDArray[np.bool_] = self.p_values(scores) <= self.false_alarm_rate
        return flags

    @property
    def threshold(self) -> float:
        """The calibration score that a flagged score exceeds; flagged means the same as `score > threshold`."""
        ranks = (np.arange(len(self)) + 1) / (len(self) + 1)
        allowed = int((ranks <= self.false_alarm_rate).sum())
        return float(self.scores[len(self) - allowed])

    def at(self, false_alarm_rate: float) -> Calibration:
        """The same calibration for another false-alarm rate."""
        return Calibration(self.scores, false_alarm_rate, self.predictions)

    def false_alarms(self) -> FalseAlarms:
        """How many of the calibration images are flagged, in total and for each predicted class.

        The total is the chosen rate by construction; the rates of single classes differ from it and show where the
        detector is stricter than chosen; there are none where the predictions are not known.
        """
        flags = self.flagged(self.scores)
        return false_alarms(self.predictions, flags) if len(self.predictions) else _count(flags, None)


@dataclass(frozen=True)
class FalseAlarms:
    """How many of some known images were flagged.

    Attributes:
        images: Number of known images.
        flagged: Number of flagged ones.
        low: Lower end of the exact 95 % interval of the rate (Clopper and Pearson, 1934).
        high: Upper end.
        predicted_class: The class that all these images were given, or None for any.
        classes: The same for each predicted class that occurs.
    """

    images: int
    flagged: int
    low: float
    high: float
    predicted_class: int | None = None
    classes: tuple[FalseAlarms, ...] = field(default=(), repr=False)

    @property
    def rate(self) -> float:
        """Share of the images that was flagged."""
        return self.flagged / self.images

    def __str__(self) -> str:
        lines = [
            f"{'all' if part.predicted_class is None else f'class {part.predicted_class}':>9}: {part.flagged:5d} of "
            f"{part.images:6d} flagged, {part.rate:6.1%} (95 % interval {part.low:.1%} to {part.high:.1%})"
            for part in (self, *self.classes)
        ]
        return "\n".join(lines)


def false_alarms(predictions: npt.ArrayLike, flagged: npt.ArrayLike) -> FalseAlarms:
    """Count false alarms among known images, in total and for each predicted class.

    The rate that calibration guarantees holds on average over all known images; single classes differ.

    Args:
        predictions: Predicted classes (N,) of known images.
        flagged: Whether each was flagged (N,).

    Returns:
        The counts, with exact intervals.

    Raises:
        InputError: No image, or lengths that differ.
    """
    classes, flags = np.asarray(predictions).reshape(-1), np.asarray(flagged, dtype=bool).reshape(-1)
    if len(classes) != len(flags) or not len(flags):
        raise InputError(f"{len(classes)} predictions and {len(flags)} flags; give one of each for each known image")
    parts = tuple(_count(flags[classes == k], int(k)) for k in np.unique(classes))
    return _count(flags, None, parts)


def _count(
    flags: npt.NDArray[np.bool_], predicted_class: int | None, classes: tuple[FalseAlarms, ...] = ()
) -> FalseAlarms:
    images, flagged = len(flags), int(flags.sum())
    interval = stats.binomtest(flagged, images).proportion_ci(0.95, method="exact")
    return FalseAlarms(images, flagged, float(interval.low), float(interval.high), predicted_class, classes)
