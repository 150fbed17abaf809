"""Figures with intervals over patients, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from gradiometer.benchmarks import clusters
from gradiometer.benchmarks.metrics import Interval
from gradiometer.errors import InputError


def predictions(classes: int, count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    scores = rng.normal(size=(count, classes)) + 1.2 * np.eye(classes)[truth]
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return truth, np.round(shares, 2)  # rounding makes ties


def expected(name: str, truth: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> float:
    classes = shares.shape[1]
    called, given = shares.argmax(1), {"sample_weight": weights}
    if name == "accuracy":
        return metrics.accuracy_score(truth, called, **given)
    if name == "kappa":
        return metrics.cohen_kappa_score(truth, called, weights="quadratic", **given)
    if name == "F1":
        return metrics.f1_score(truth, called, average="binary" if classes == 2 else "macro", **given)
    score = metrics.roc_auc_score if name == "AUROC" else metrics.average_precision_score
    if classes == 2:
        return score(truth, shares[:, 1], **given)
    return float(np.mean([score(truth == label, shares[:, label], **given) for label in range(classes)]))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(clusters.GRADED))
def test_figures_on_resamples_are_those_of_scikit_learn(name: str, classes: int) -> None:
    truth, shares = predictions(classes)
    counts = clusters.resamples(truth, np.arange(len(truth)) // 3, draws=5, seed=1)
    found = clusters.GRADED[name](truth, shares, counts)
    for row, value in zip(counts, found, strict=True):
        there = row > 0
        assert value == pytest.approx(expected(name, truth[there], shares[there], row[there]), abs=1e-12)


def test_a_resample_holds_whole_clusters() -> None:
    truth, groups = np.tile([0, 1], 30), np.repeat(np.arange(20), 3)
    counts = clusters.resamples(truth, groups, draws=50, seed=0)
    assert counts.shape == (50, 60)
    assert (counts.reshape(50, 20, 3) == counts.reshape(50, 20, 3)[:, :, :1]).all()
    assert (counts.sum(1) == 60).all()


def test_scans_of_few_patients_give_wide_intervals() -> None:
    """Sixty copies of ten images are ten images."""
    truth, shares = predictions(2, 12)
    many = [np.repeat(one, 20, axis=0) for one in (truth, shares)]
    alone = clusters.figures(truth, shares, np.arange(12))["accuracy"]
    together = clusters.figures(*many, np.repeat(np.arange(12), 20))["accuracy"]
    as_if_independent = clusters.figures(*many, np.arange(240))["accuracy"]
    assert together == alone
    assert (as_if_independent.high - as_if_independent.low) < 0.5 * (together.high - together.low)


def test_difference_to_itself_is_none_and_pairs_are_narrower() -> None:
    truth, shares = predictions(2, 200)
    worse = 0.9 * shares + 0.1 * predictions(2, 200, seed=1)[1]
    groups = np.arange(200)
    same = clusters.differences(truth, [shares, worse], [worse, shares], groups, draws=100)
    assert all(abs(value) < 1e-12 for found in same.values() for value in (found.value, found.low, found.high))
    found = clusters.differences(truth, [shares], [worse], groups, draws=200)["AUROC"]
    first, second = (clusters.figures(truth, one, groups, draws=200)["AUROC"] for one in (shares, worse))
    assert found.value == pytest.approx(first.value - second.value)
    assert found.high - found.low < first.high - first.low


def test_means_over_trainings_are_means() -> None:
    truth, shares = predictions(3)
    other = predictions(3, seed=2)[1]
    groups = np.arange(len(truth))
    found = clusters.means(truth, [shares, other], groups, draws=10)["AUROC"].value
    single = [clusters.figures(truth, one, groups, draws=10)["AUROC"].value for one in (shares, other)]
    assert found == pytest.approx(np.mean(single))


def test_no_draws_give_no_width() -> None:
    truth, shares = predictions(2)
    found = clusters.figures(truth, shares, np.arange(90), draws=0)["accuracy"]
    assert found == Interval(found.value, found.value, found.value)


def test_what_cannot_be_measured_is_an_error() -> None:
    truth, shares = predictions(2, 20)
    with pytest.raises(InputError, match="of one class"):
        clusters.figures(np.zeros(20, dtype=np.int64), shares, np.arange(20))
    with pytest.raises(InputError, match="do not fit"):
        clusters.figures(truth, shares[:5], np.arange(20))
    with pytest.raises(InputError, match="1 patients are too few"):
        clusters.resamples(np.array([0, 0]), np.array([3, 3]), draws=1, seed=0)
