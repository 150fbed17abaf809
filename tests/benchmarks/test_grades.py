"""Agreement with grades is what SciPy and scikit-learn say, and its intervals are those of resampled patients."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from gradiometer.benchmarks.grades import (
    Agreement,
    agreement,
    difference,
    partial_spearman,
    resamples,
    spearman,
    weighted_kappa,
)
from gradiometer.errors import InputError
from gradiometer.severity import Cuts

graded = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4)), min_size=3, max_size=60)


@given(graded)
@settings(max_examples=100)
def test_figures_are_those_of_other_libraries(pairs: list[tuple[int, int]]) -> None:
    scores, grades = np.array(pairs).T
    if len(set(scores)) < 2 or len(set(grades)) < 2:
        return
    found = agreement(scores, grades, cuts=Cuts(np.array([-2.0, 0.0, 1.0, 3.0])), draws=0)
    assert found.spearman is not None
    assert found.spearman.value == pytest.approx(stats.spearmanr(scores, grades).statistic, abs=1e-9)
    said = np.digitize(scores, [-2, 0, 1, 3], right=True)
    assert weighted_kappa(said, grades) == pytest.approx(
        cohen_kappa_score(said, grades, weights="quadratic", labels=range(5)), abs=1e-12
    )
    assert found.kappa is not None
    assert found.kappa.value == pytest.approx(weighted_kappa(said, grades), abs=1e-12)
    severe = grades >= 2
    if severe.any() and not severe.all():
        assert found.auroc is not None
        assert found.auroc.value == pytest.approx(roc_auc_score(severe, scores), abs=1e-9)
    else:
        assert found.auroc is None


def test_a_partial_correlation_is_that_of_residuals() -> None:
    random = np.random.default_rng(0)
    nuisance = random.normal(size=(300, 2))
    grades = np.digitize(nuisance[:, 0] + random.normal(size=300), [-1, 0, 1])
    scores = nuisance[:, 0] + 0.1 * random.normal(size=300)
    ranks = [stats.rankdata(one) for one in (scores, grades)]
    columns = stats.rankdata(nuisance, axis=0)
    rest = [one - LinearRegression().fit(columns, one).predict(columns) for one in ranks]
    found = agreement(scores, grades, nuisances=nuisance, draws=200)
    assert found.partial is not None
    assert found.spearman is not None
    assert found.partial.value == pytest.approx(stats.pearsonr(*rest).statistic, abs=1e-9)
    assert found.spearman.value > 0.5  # all of it by way of the nuisance
    assert 0 in found.partial
    assert np.isnan(partial_spearman(nuisance[:, 0], grades, nuisance))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for seed in range(40):
        grades = random.integers(0, 5, 100)
        scores = grades + random.normal(0, 2, 100)
        found = agreement(scores, grades, severe=9, seed=seed, draws=100).spearman
        assert found is not None
        assert found.low <= found.value <= found.high
        hits += 0.581 in found  # what stats.spearmanr gives for a million such scans
    assert 35 <= hits <= 40


def test_patients_are_resampled_as_a_whole() -> None:
    groups = np.repeat([5, 3, 9], [2, 3, 4])
    for rows in resamples(9, groups, seed=0, draws=20):
        counts = np.bincount(rows, minlength=9)
        assert all(len(set(counts[groups == group])) == 1 for group in (5, 3, 9))
        assert sum(counts[groups == group][0] for group in (5, 3, 9)) == 3
    random = np.random.default_rng(0)
    grades = np.repeat(random.integers(0, 5, 40), 10)
    scores = grades + np.repeat(random.normal(0, 2, 40), 10)
    alone = agreement(scores, grades, draws=150).spearman
    together = agreement(scores, grades, groups=np.repeat(np.arange(40), 10), draws=150).spearman
    assert alone is not None
    assert together is not None
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_difference_is_paired() -> None:
    random = np.random.default_rng(0)
    grades = random.integers(0, 5, 300)
    first = grades + random.normal(0, 2, 300)
    found = difference(first, first + random.normal(0, 0.2, 300), grades)
    assert found.high - found.low < 0.03
    worse = difference(random.normal(size=300), first, grades)
    assert worse.high < 0
    assert worse.value == pytest.approx(spearman(random.normal(size=300), grades) - spearman(first, grades), abs=0.2)
    assert difference(first, first, grades) == difference(first, 3 * first + 1, grades)


def test_agreement_survives_a_record() -> None:
    found = agreement([0.1, 0.2, 0.3], [0, 1, 1], draws=10)
    assert found.auroc is None
    assert Agreement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("scores", "grades", "message"),
    [
        ([0.1, 0.2], [1, 1], "all 2 grades are 1"),
        ([0.2, 0.2], [0, 1], "all 2 scores are 0.2"),
        ([0.1, np.nan], [0, 1], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [0, 1, 2], "grades must be 2 whole numbers"),
        ([0.1, 0.2], [0.0, 1.0], "whole numbers from 0"),
    ],
)
def test_what_cannot_agree_is_refused(scores: list[float], grades: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        agreement(scores, grades)
    with pytest.raises(InputError, match="3 groups for 2 scans"):
        resamples(2, [1, 2, 3], seed=0, draws=1)
    with pytest.raises(InputError, match="2 and 3 scores"):
        difference([1, 2], [1, 2, 3], [0, 1])
