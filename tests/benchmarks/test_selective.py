"""Figures of selective prediction against a hand-made case and the definition, written out by brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiometer.benchmarks import selective
from gradiometer.benchmarks.metrics import Interval
from gradiometer.errors import InputError

# Five predictions in the order of their scores: right, right, wrong, right, wrong.
RIGHT, WRONG = [1.0, 2.0, 4.0], [3.0, 5.0]
GROUPS = ([0, 1, 2], [3, 4])

SCORES = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(lambda values: np.array(values) / 2)


def by_definition(right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """The mean over all orders that the scores allow of figures that are counted, one prediction after the other."""
    scores, errors = np.concatenate([right, wrong]), np.repeat([0, 1], [len(right), len(wrong)])
    count, found = len(scores), []
    for order in map(list, permutations(range(count))):
        if (np.diff(scores[order]) < 0).any():
            continue
        risks = [errors[order[:kept]].mean() for kept in range(1, count + 1)]
        best = [np.sort(errors)[:kept].mean() for kept in range(1, count + 1)]
        kept = {name: int(np.ceil(percent * count / 100)) for name, percent in selective.COVERAGES.items()}
        found.append(
            {
                "aurc": np.mean(risks),
                "excess_aurc": np.mean(risks) - np.mean(best),
                **{name: 1 - risks[number - 1] for name, number in kept.items()},
            }
        )
    return {name: float(np.mean([one[name] for one in found])) for name in selective.FIGURES}


def numbered(right: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(right)), len(right) + np.arange(len(wrong))


def test_the_hand_made_example():
    found = selective.evaluate([(RIGHT, WRONG)], GROUPS, draws=0)
    assert found.aurc.value == pytest.approx((0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5)
    # The best order has both wrong predictions at the end.
    assert found.excess_aurc.value == pytest.approx(found.aurc.value - (0 + 0 + 0 + 1 / 4 + 2 / 5) / 5)
    assert found.accuracy == Interval(0.6, 0.6, 0.6)
    assert found.accuracy_at_95.value == pytest.approx(0.6)  # 95 % of five are five
    assert found.accuracy_at_80.value == pytest.approx(3 / 4)  # and 80 % are four
    assert (found.right, found.wrong) == (3, 2)


@given(SCORES, SCORES)
def test_figures_are_means_over_all_orders_of_equal_scores(right, wrong):
    found = selective.evaluate([(right, wrong)], numbered(right, wrong), draws=0)
    for name, value in by_definition(right, wrong).items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-9), name


def test_the_area_of_many_predictions_is_the_mean_risk(two_sides):
    right, wrong = two_sides
    errors = np.repeat([0, 1], [len(right), len(wrong)])[np.argsort(np.concatenate(two_sides))]
    risks = np.cumsum(errors) / np.arange(1, len(errors) + 1)
    found = selective.evaluate([two_sides], numbered(right, wrong), draws=0)
    assert found.aurc.value == pytest.approx(risks.mean())
    # The published approximation of the best order: r + (1 - r) ln(1 - r).
    rate = errors.mean()
    best = found.aurc.value - found.excess_aurc.value
    assert best == pytest.approx(rate + (1 - rate) * np.log(1 - rate), abs=2 / len(errors))


def test_a_blind_score_has_the_share_of_wrong_predictions_everywhere():
    found = selective.evaluate([(np.zeros(30), np.zeros(10))], (np.arange(30), 30 + np.arange(10)), draws=0)
    assert found.aurc.value == pytest.approx(0.25)
    assert found.accuracy.value == found.accuracy_at_95.value == found.accuracy_at_80.value == pytest.approx(0.75)
    perfect = selective.evaluate([(np.zeros(30), np.ones(10))], (np.arange(30), 30 + np.arange(10)), draws=50)
    assert perfect.excess_aurc == Interval(0.0, 0.0, 0.0)
    assert perfect.accuracy_at_80.value == pytest.approx(30 / 32)


def test_a_resample_is_worth_what_the_definition_says_of_it():
    """Whole base images are drawn, right and wrong ones together: three here, of which one is both."""
    right, wrong = np.array([1.0, 2.0, 4.0, 2.5]), np.array([3.0, 5.0])
    bases = np.array([0, 0, 1, 2]), np.array([2, 1])
    _, drawn = selective.resampled([(right, wrong)], bases, seed=5, draws=12)
    totals = set()
    for draw, child in enumerate(np.random.SeedSequence(5).spawn(12)):
        chosen = np.random.default_rng(child).integers(0, 3, 3)
        again = [
            np.concatenate([side[base == one] for one in chosen])
            for side, base in zip((right, wrong), bases, strict=True)
        ]
        totals.add((len(again[0]), len(again[1])))
        for name, value in by_definition(*again).items():
            assert drawn[name][draw] == pytest.approx(value, abs=1e-9), name
    assert len(totals) > 1  # the share of wrong predictions is no constant


def test_resamples_do_not_depend_on_the_size_of_a_chunk(two_sides, monkeypatch):
    groups = numbered(*two_sides)
    _, whole = selective.resampled([two_sides], groups, seed=1, draws=7)
    monkeypatch.setattr(selective, "_CHUNK", 1000)
    _, parts = selective.resampled([two_sides], groups, seed=1, draws=7)
    for name in selective.FIGURES:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-12)


def test_several_trainings_are_averaged_before_the_interval_is_taken(two_sides):
    right, wrong = two_sides
    groups = numbered(right, wrong)
    runs = [(right, wrong), (right, wrong + 1.0)]
    each = [selective.resampled([run], groups, draws=40) for run in runs]
    values, drawn = selective.resampled(runs, groups, draws=40)
    for name in selective.FIGURES:
        assert values[name] == pytest.approx(np.mean([value[name] for value, _ in each]))
        np.testing.assert_allclose(drawn[name], np.mean([one[name] for _, one in each], axis=0))
    found = selective.evaluate(runs, groups, draws=40)
    assert found.aurc.low < found.aurc.value < found.aurc.high
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high


def test_the_curve_goes_through_the_share_of_wrong_predictions(two_sides):
    coverage, risk = selective.risk_coverage(*two_sides)
    assert (coverage[-1], risk[-1]) == (1.0, pytest.approx(200 / 500))
    found = selective.evaluate([two_sides], numbered(*two_sides), draws=0)
    assert found.aurc.value == pytest.approx(risk.mean())  # no score occurs twice
    assert found.accuracy_at_80.value == pytest.approx(1 - risk[coverage >= 0.8 - 1e-9][0])


def test_what_cannot_be_evaluated_is_refused(two_sides):
    with pytest.raises(InputError, match="3 and 2 base images for 300 right and 200 wrong"):
        selective.evaluate([two_sides], GROUPS)
    with pytest.raises(InputError, match="NaN or infinite"):
        selective.evaluate([(RIGHT, [np.nan, 1.0])], GROUPS)
    with pytest.raises(InputError, match="same images"):
        selective.evaluate([(RIGHT, WRONG), (RIGHT, WRONG[:1])], GROUPS)


def test_figures_survive_a_dictionary():
    found = selective.evaluate([(RIGHT, WRONG)], GROUPS, draws=10)
    assert selective.Selective.from_dict(found.to_dict()) == found
