"""Conformal calibration against its definition and against the binomial distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradiometer.detectors.calibration import Calibration, false_alarms, images_needed
from gradiometer.errors import InputError

SCORES = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]) | st.floats(-5, 5), min_size=40, max_size=80)


@given(SCORES, SCORES, st.sampled_from([0.03, 0.05, 0.1, 1 / 3, 0.5, 0.9]))
def test_p_values_flags_and_threshold_are_those_of_the_definition(known, new, rate):
    calibration = Calibration(np.array(known), rate)
    expected = [(sum(other >= score for other in known) + 1) / (len(known) + 1) for score in new]
    assert calibration.p_values(new).tolist() == expected
    flags = calibration.flagged(new)
    assert flags.tolist() == [p <= rate for p in expected]
    assert flags.tolist() == [score > calibration.threshold for score in new]


@pytest.mark.parametrize(("images", "rate"), [(19, 0.05), (99, 0.1), (150, 0.2)])
def test_false_alarms_come_at_the_chosen_rate(images, rate):
    # A known score below the k-th largest of n calibration scores is one of n + 1 exchangeable ranks.
    exact = int(rate * (images + 1) + 1e-9) / (images + 1)
    generator = np.random.default_rng(0)
    flagged = sum(
        bool(Calibration(scores[:-1], rate).flagged(scores[-1:])[0])
        for scores in generator.gumbel(size=(4000, images + 1))
    )
    low, high = stats.binom.interval(0.999, 4000, exact)
    assert low <= flagged <= high
    assert exact <= rate


@pytest.mark.parametrize("rate", [0.5, 1 / 3, 0.1, 0.05, 0.07, 0.01, 0.001, 0.013, 1e-5])
def test_the_number_of_images_needed_is_the_smallest_that_can_flag(rate):
    needed = images_needed(rate)
    assert needed == next(n for n in range(1, 200_000) if 1 / (n + 1) <= rate)
    assert Calibration(np.arange(needed), rate).flagged([needed + 1.0]).all()
    if needed > 1:
        with pytest.raises(InputError, match=rf"needs at least {needed} calibration images, there are {needed - 1};"):
            Calibration(np.arange(needed - 1), rate)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5.0, float("nan"), "5%", "0.05", None, [0.05]])
def test_rates_that_are_no_shares_are_refused(rate):
    with pytest.raises(InputError, match="give a share between 0 and 1"):
        Calibration(np.arange(100.0), rate)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="2 calibration score"):
        Calibration(np.array([*range(50), np.nan, np.inf]), 0.1)


def test_another_rate_keeps_the_scores():
    calibration = Calibration(np.arange(100.0)[::-1], 0.05, np.arange(100) % 3).at(0.2)
    assert calibration.false_alarm_rate == 0.2
    assert calibration.scores.tolist() == list(range(100))
    assert calibration.predictions.tolist() == [(99 - score) % 3 for score in range(100)]


def test_false_alarms_are_counted_for_each_predicted_class():
    predictions = np.array([0] * 50 + [2] * 30 + [7] * 20)
    flagged = np.zeros(100, dtype=bool)
    flagged[[3, 60, 61, 62]] = True
    found = false_alarms(predictions, flagged)
    assert (found.images, found.flagged, found.rate) == (100, 4, 0.04)
    assert [(part.predicted_class, part.images, part.flagged) for part in found.classes] == [
        (0, 50, 1),
        (2, 30, 3),
        (7, 20, 0),
    ]
    # Clopper and Pearson by the beta distribution.
    for part in (found, *found.classes):
        low = stats.beta.ppf(0.025, part.flagged, part.images - part.flagged + 1) if part.flagged else 0.0
        high = stats.beta.ppf(0.975, part.flagged + 1, part.images - part.flagged)
        assert (part.low, part.high) == pytest.approx((low, high))
    assert "class 2:     3 of     30 flagged,  10.0%" in str(found)


def test_calibration_reports_its_own_false_alarms_by_class():
    scores = np.arange(200.0)
    found = Calibration(scores, 0.1, (scores > 150).astype(int)).false_alarms()
    # Of 201 ranks 20 may be flagged, and one of those is the new image's.
    assert [(part.images, part.flagged) for part in (found, *found.classes)] == [(200, 19), (151, 0), (49, 19)]


def test_counts_that_do_not_belong_together_are_refused():
    with pytest.raises(InputError, match="2 predictions and 3 flags"):
        false_alarms([1, 2], [True, False, True])
    with pytest.raises(InputError, match="3 predictions for 50 scores"):
        Calibration(np.arange(50.0), 0.1, np.arange(3))
