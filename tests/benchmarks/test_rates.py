"""Intervals of a realised false-alarm rate, against the distribution and against a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gradiometer.benchmarks import rates
from gradiometer.errors import InputError


def test_the_false_alarm_interval_holds_99_percent_of_a_binomial():
    interval = rates.false_alarm_interval(0.05, 5000)
    inside = stats.binom.cdf(round(interval.high * 5000), 5000, 0.05) - stats.binom.cdf(
        round(interval.low * 5000) - 1, 5000, 0.05
    )
    assert 0.99 <= inside < 0.992
    assert (interval.low, interval.high) == pytest.approx((0.0422, 0.0580), abs=2e-4)


def test_the_interval_with_calibration_holds_what_calibration_really_does():
    """Against a simulation: threshold at a rank of n uniform scores, then m more."""
    rate, n, m = 0.1, 99, 200
    interval = rates.conformal_interval(rate, n, m)
    generator = np.random.default_rng(0)
    calibration = np.sort(generator.uniform(size=(4000, n)), axis=1)
    flagged = (generator.uniform(size=(4000, m)) > calibration[:, [n - 10]]).mean(1)
    inside = np.mean((flagged >= interval.low) & (flagged <= interval.high))
    assert inside == pytest.approx(0.991, abs=0.005)
    assert interval.high - interval.low > 1.5 * np.diff(
        [getattr(rates.false_alarm_interval(rate, m), end) for end in ("low", "high")]
    )
    with pytest.raises(InputError, match="calibration"):
        rates.conformal_interval(0.05, 10, 100)


def test_unusable_rates_are_refused():
    with pytest.raises(InputError, match="rate"):
        rates.false_alarm_interval(0.0, 10)
