"""Figures against a hand-made example, scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gradiometer.benchmarks import counts, metrics
from gradiometer.errors import InputError

# Ten points, five a side, written down in the order of their scores: k k k c k c k c c c.
KNOWN = [1.0, 2.0, 3.0, 5.0, 7.0]
CHALLENGE = [4.0, 6.0, 8.0, 9.0, 10.0]


def test_the_hand_made_example():
    result = metrics.evaluate(KNOWN, CHALLENGE, draws=0)
    # Of 25 pairs the challenge loses three: 4 < 5, 4 < 7, 6 < 7.
    assert result.auroc.value == pytest.approx(22 / 25)
    # Known positive: precision at each known score, ranked from below.
    assert result.aupr_in.value == pytest.approx((1 + 1 + 1 + 4 / 5 + 5 / 7) / 5)
    # Challenge positive, ranked from above.
    assert result.aupr_out.value == pytest.approx((1 + 1 + 1 + 4 / 5 + 5 / 7) / 5)
    # Accepting scores up to 3 takes 3/5 of the known and none of the challenge; up to 5: 4/5 and 1/5; up to 7: 1, 2/5.
    assert result.detection_accuracy.value == pytest.approx(0.8)
    # TPR can be 0.8 or 1.0; 1.0 is closer to 0.95 and lies at 7, below which are two of the challenge.
    assert result.tnr_at_95.value == pytest.approx(3 / 5)
    assert (result.known, result.challenge) == (5, 5)


def test_of_two_equally_close_rates_the_one_that_accepts_more_counts():
    known = np.arange(10.0)  # TPR 0.9 at 8, 1.0 at 9
    result = metrics.evaluate(known, [8.5, 20.0], draws=0)
    assert result.tnr_at_95.value == 0.5


def test_nothing_is_better_than_coin_tossing_when_all_scores_are_equal():
    result = metrics.evaluate(np.zeros(30), np.zeros(10), draws=20)
    assert result.auroc == metrics.Interval(0.5, 0.5, 0.5)
    assert result.detection_accuracy.value == 0.5
    assert result.tnr_at_95.value == 0.0
    assert result.aupr_in.value == pytest.approx(0.75)


def _tnr_by_loop(known: np.ndarray, challenge: np.ndarray) -> float:
    best = None
    for threshold in sorted(set(known)):
        rate = float(np.mean(known <= threshold))
        key = (round(abs(rate - 0.95), 9), -rate)
        if best is None or key < best[0]:
            best = key, float(np.mean(challenge > threshold))
    assert best is not None
    return best[1]


def _accuracy_by_loop(known: np.ndarray, challenge: np.ndarray) -> float:
    thresholds = [-np.inf, *sorted({*known, *challenge})]
    return max(0.5 * (np.mean(known <= t) + np.mean(challenge > t)) for t in thresholds)


SCORES = st.lists(st.integers(0, 12), min_size=1, max_size=40).map(lambda values: np.array(values) / 4)


@given(SCORES, SCORES)
def test_figures_agree_with_scikit_learn_and_loops_also_with_ties(known, challenge):
    result = metrics.evaluate(known, challenge, draws=0)
    scores = np.concatenate([known, challenge])
    truth = np.repeat([0, 1], [len(known), len(challenge)])
    assert result.auroc.value == pytest.approx(roc_auc_score(truth, scores))
    assert result.aupr_in.value == pytest.approx(average_precision_score(1 - truth, -scores))
    assert result.aupr_out.value == pytest.approx(average_precision_score(truth, scores))
    assert result.detection_accuracy.value == pytest.approx(_accuracy_by_loop(known, challenge))
    assert result.tnr_at_95.value == pytest.approx(_tnr_by_loop(known, challenge))


@given(SCORES, SCORES)
def test_the_auroc_flips_under_negation(known, challenge):
    straight, turned = metrics.evaluate(known, challenge, draws=0), metrics.evaluate(-known, -challenge, draws=0)
    assert turned.auroc.value == pytest.approx(1 - straight.auroc.value)


@pytest.mark.parametrize("decimals", [1, 12])
def test_a_resample_is_worth_what_scikit_learn_says_of_it(two_sides, decimals):
    known, challenge = (side.round(decimals) for side in two_sides)
    found = metrics.resample(known, challenge, seed=5, draws=4)
    for draw, child in enumerate(np.random.SeedSequence(5).spawn(4)):
        generator = np.random.default_rng(child)
        again = known[generator.integers(0, len(known), len(known))]
        others = challenge[generator.integers(0, len(challenge), len(challenge))]
        expected = metrics.evaluate(again, others, draws=0)
        for name in metrics.FIGURES:
            assert found[name][draw] == pytest.approx(getattr(expected, name).value), name


def test_resamples_do_not_depend_on_the_size_of_a_chunk(two_sides, monkeypatch):
    whole = metrics.resample(*two_sides, seed=1, draws=7)
    monkeypatch.setattr(counts, "_CHUNK", 1000)
    parts = metrics.resample(*two_sides, seed=1, draws=7)
    for name in metrics.FIGURES:
        np.testing.assert_allclose(whole[name], parts[name], rtol=1e-12)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = stats.norm.cdf(1 / np.sqrt(2))  # P(known < challenge) for two normals one apart
    generator = np.random.default_rng(0)
    hits = 0
    for repeat in range(60):
        known, challenge = generator.normal(size=80), generator.normal(loc=1.0, size=80)
        auroc = metrics.resample(known, challenge, seed=repeat, draws=200)["auroc"]
        hits += truth in metrics.percentile_interval(float("nan"), auroc, confidence=0.9)
    # 60 trials at 90 %: 46 to 60 are the central 99.9 %.
    assert 46 <= hits <= 60


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not(two_sides):
    first = metrics.evaluate(*two_sides, seed=1, draws=50)
    assert first == metrics.evaluate(*two_sides, seed=1, draws=50)
    assert first.auroc != metrics.evaluate(*two_sides, seed=2, draws=50).auroc
    assert first.auroc.low < first.auroc.value < first.auroc.high
    assert first.auroc.value in first.auroc


def test_two_detectors_with_one_seed_see_the_same_resamples(two_sides):
    known, challenge = two_sides
    value, drawn = metrics.resampled_auroc([two_sides], draws=200)
    assert value == metrics.evaluate(known, challenge, draws=0).auroc.value
    assert np.array_equal(drawn, metrics.resampled_auroc([(2 * known, 2 * challenge)], draws=200)[1])
    better, resampled = metrics.resampled_auroc([(known, challenge + 0.5)], draws=200)
    paired = metrics.percentile_interval(better - value, resampled - drawn)
    separate = metrics.evaluate(known, challenge, draws=200).auroc
    assert 0 < paired.low < paired.value
    assert paired.high - paired.low < separate.high - separate.low


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_row(bad):
    with pytest.raises(InputError, match=r"1 of 3 challenge scores .* row 1"):
        metrics.evaluate([0.0, 1.0], [0.0, bad, 1.0])


@pytest.mark.parametrize("empty", [[], [[1.0]]])
def test_scores_of_another_shape_are_refused(empty):
    with pytest.raises(InputError, match="non-empty one-dimensional"):
        metrics.evaluate(empty, [1.0])


def test_unusable_settings_are_refused():
    with pytest.raises(InputError, match="draws"):
        metrics.evaluate([1.0], [1.0], draws=-1)


def test_figures_survive_a_dictionary(two_sides):
    result = metrics.evaluate(*two_sides, draws=10)
    assert metrics.Metrics.from_dict(result.to_dict()) == result


def test_several_trainings_are_averaged_before_the_interval_is_taken(two_sides):
    known, challenge = two_sides
    runs = [(known, challenge), (-known, -challenge)]
    found = metrics.evaluate_all(runs, draws=50)
    assert found.auroc.value == pytest.approx(0.5)
    # What one loses the other gains, image by image: the mean does not move at all.
    assert found.auroc.high - found.auroc.low < 1e-9
    assert metrics.evaluate_all(runs[:1], draws=50) == metrics.evaluate(known, challenge, draws=50)
    with pytest.raises(InputError, match="the same images"):
        metrics.evaluate_all([(known, challenge), (known[1:], challenge)])
