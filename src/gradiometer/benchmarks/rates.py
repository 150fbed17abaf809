"""Where a realised false-alarm rate may lie when the one that was asked for holds."""

from __future__ import annotations

import numpy as np
from scipy import stats

from gradiometer.benchmarks.metrics import Floats, Interval
from gradiometer.benchmarks.records import RealisedRate
from gradiometer.detectors import Calibration
from gradiometer.errors import InputError


def false_alarm_interval(rate: float, count: int, *, confidence: float = 0.99) -> Interval:
    """Where the share of flagged known inputs lies when each is flagged with the given probability.

    Args:
        rate: The false-alarm rate that was asked for.
        count: Number of unseen known inputs.
        confidence: Share of all outcomes inside the interval.

    Returns:
        The central binomial interval around the rate, as shares.

    Raises:
        InputError: If the rate is not in (0, 1) or there are no inputs.
    """
    if not 0 < rate < 1 or count < 1:
        raise InputError(f"a false-alarm rate in (0, 1) and at least one input are needed, got {rate} and {count}")
    low, high = stats.binom.interval(confidence, count, rate)
    return Interval(rate, float(low) / count, float(high) / count)


def conformal_interval(rate: float, calibration: int, count: int, *, confidence: float = 0.99) -> Interval:
    """Where the share of flagged known inputs lies when the draw of the calibration inputs counts too.

    With n exchangeable calibration scores the probability of a false alarm is itself drawn, from
    Beta(k, n + 1 - k) with k = floor(rate * (n + 1)); the number of false alarms is hence beta-binomial (Vovk,
    "Conditional validity of inductive conformal predictors", 2012).

    Args:
        rate: The false-alarm rate that was asked for.
        calibration: Number n of calibration inputs.
        count: Number of unseen known inputs.
        confidence: Share of all outcomes inside the interval.

    Returns:
        The central interval around the rate, as shares.

    Raises:
        InputError: If the rate is not in (0, 1), there are no inputs, or too few calibration inputs for the rate.
    """
    allowed = int(np.floor(rate * (calibration + 1) + 1e-9))
    if not 0 < rate < 1 or count < 1 or allowed < 1:
        raise InputError(
            f"a false-alarm rate in (0, 1), at least one input and 1 / rate - 1 calibration inputs are needed, "
            f"got {rate}, {count} and {calibration}"
        )
    low, high = stats.betabinom.interval(confidence, count, allowed, calibration + 1 - allowed)
    return Interval(rate, float(low) / count, float(high) / count)


def realised(calibration: Calibration, unseen: Floats, rate: float) -> RealisedRate:
    """How many of some unseen known inputs a calibrated detector flags.

    Args:
        calibration: What set the threshold.
        unseen: Scores (N,) of known inputs that neither set it nor were fitted on.
        rate: The false-alarm rate that was asked for.
    """
    return RealisedRate(
        asked=rate,
        flagged=int(calibration.flagged(unseen).sum()),
        count=len(unseen),
        calibration=len(calibration),
        expected=false_alarm_interval(rate, len(unseen)),
        expected_with_calibration=conformal_interval(rate, len(calibration), len(unseen)),
    )
