"""How good predictions are, with intervals that resample patients rather than images.

Scans of one patient are alike. Resampling them one by one would take them for independent, and the interval would be
too narrow; so whole patients are drawn (Field and Welsh, "Bootstrapping clustered data", JRSS B 2007). Where patients
are not known, every image is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks.metrics import Floats, Integers, Interval, percentile_interval
from gradiometer.errors import InputError

Figure = Callable[[Integers, Floats, Integers], Floats]
"""From classes (M,), probabilities (M, C) and how often each image counts (D, M) to D values, one for each resample."""

_DRAWS = 64
"""Resamples that are dealt with at once."""


def accuracy(truth: Integers, shares: Floats, counts: Integers) -> Floats:
    """Share of images whose most likely class is theirs."""
    right = shares.argmax(1) == truth
    found: Floats = counts[:, right].sum(1) / counts.sum(1)
    return found


def f1(truth: Integers, shares: Floats, counts: Integers) -> Floats:
    """F1 of the positive class of two, the mean over classes for more; 0 for a class that is never predicted."""
    matrix = _confusion(truth, shares, counts)
    hits = matrix.diagonal(axis1=1, axis2=2)
    total = matrix.sum(1) + matrix.sum(2)
    each = 2 * hits / np.maximum(total, 1)
    if shares.shape[1] == 2:
        positive: Floats = each[:, 1]
        return positive
    # A class that neither is there nor is predicted in a resample says nothing about it.
    return _mean(np.where(total > 0, each, np.nan))


def auroc(truth: Integers, shares: Floats, counts: Integers) -> Floats:
    """Area under the ROC curve of the positive class; over more classes the mean of each against the others."""
    return _over_classes(truth, shares, counts, _area)


def average_precision(truth: Integers, shares: Floats, counts: Integers) -> Floats:
    """Average precision of the positive class; over more classes the mean of each against the others."""
    return _over_classes(truth, shares, counts, _precision)


def kappa(truth: Integers, shares: Floats, counts: Integers) -> Floats:
    """Quadratic-weighted kappa of the most likely class, for ordered classes (Cohen 1968)."""
    matrix = _confusion(truth, shares, counts).astype(np.float64)
    ranks = np.arange(shares.shape[1])
    weights = (ranks[:, None] - ranks[None, :]) ** 2
    chance = matrix.sum(2)[:, :, None] * matrix.sum(1)[:, None, :] / matrix.sum((1, 2))[:, None, None]
    expected = (weights * chance).sum((1, 2))
    found: Floats = 1 - (weights * matrix).sum((1, 2)) / np.where(expected > 0, expected, np.nan)
    return found


FIGURES: Mapping[str, Figure] = {
    "accuracy": accuracy,
    "F1": f1,
    "AUROC": auroc,
    "average precision": average_precision,
}
"""Name -> figure of two or more classes."""

GRADED: Mapping[str, Figure] = {**FIGURES, "kappa": kappa}
"""The same for classes in an order."""


def figures(
    truth: Integers,
    shares: Floats,
    clusters: Integers,
    *,
    draws: int = 1000,
    seed: int = 0,
    chosen: Mapping[str, Figure] = FIGURES,
) -> dict[str, Interval]:
    """Figures with 95 % bootstrap intervals over clusters.

    Args:
        truth: int64 (M,) classes from 0.
        shares: float64 (M, C) probability of each class.
        clusters: int64 (M,): what belongs together.
        draws: Bootstrap resamples; one without two classes is drawn again.
        seed: Seeds the resampling.
        chosen: The figures.

    Raises:
        InputError: Shapes do not fit, or there are no two classes.

    Example:
        >>> sure = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
        >>> figures(np.array([0, 1, 0, 1]), sure, np.arange(4), draws=20)["AUROC"]
        Interval(value=1.0, low=1.0, high=1.0)
    """
    return means(truth, [shares], clusters, draws=draws, seed=seed, chosen=chosen)


def means(
    truth: Integers,
    trainings: Sequence[Floats],
    clusters: Integers,
    *,
    draws: int = 1000,
    seed: int = 0,
    chosen: Mapping[str, Figure] = FIGURES,
) -> dict[str, Interval]:
    """Means of figures over several trainings, each resample the same for all of them.

    Args:
        truth: int64 (M,) classes from 0.
        trainings: Probabilities (M, C) of each training.
        clusters: int64 (M,): what belongs together.
        draws: As for `figures`.
        seed: As for `figures`.
        chosen: The figures.
    """
    return _measured(truth, [trainings], clusters, (1.0,), draws, seed, chosen)


def differences(
    truth: Integers,
    first: Sequence[Floats],
    second: Sequence[Floats],
    clusters: Integers,
    *,
    draws: int = 1000,
    seed: int = 0,
    chosen: Mapping[str, Figure] = FIGURES,
) -> dict[str, Interval]:
    """Mean figures of some trainings minus those of others on the same images, with paired intervals over clusters.

    Args:
        truth: int64 (M,) classes from 0.
        first: Probabilities (M, C) of each training.
        second: Those of the others.
        clusters: int64 (M,): what belongs together.
        draws: As for `figures`.
        seed: As for `figures`.
        chosen: The figures.

    Returns:
        In favour of `first` where they are positive.
    """
    return _measured(truth, [first, second], clusters, (1.0, -1.0), draws, seed, chosen)


def resamples(truth: Integers, clusters: Integers, *, draws: int, seed: int) -> Integers:
    """How often each image is in each of the resamples of clusters.

    Args:
        truth: int64 (M,) classes; a resample in which there are no two is drawn again.
        clusters: int64 (M,).
        draws: Number of resamples D.
        seed: Seeds them.

    Returns:
        int64 (D, M).

    Raises:
        InputError: Hardly a resample has two classes.
    """
    member = np.unique(clusters, return_inverse=True)[1].reshape(-1)
    count = int(member.max()) + 1
    generator = np.random.default_rng(seed)
    found: list[Integers] = []
    for _ in range(20 * draws):
        if len(found) == draws:
            break
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)[member].astype(np.int64)
        if len(np.unique(truth[drawn > 0])) > 1:
            found.append(drawn)
    if len(found) < draws:
        raise InputError(
            f"{count} patients are too few for an interval: resamples of them hardly ever have two classes; give more"
        )
    return np.stack(found) if found else np.empty((0, len(truth)), dtype=np.int64)


def _measured(
    truth: Integers,
    sides: Sequence[Sequence[Floats]],
    clusters: Integers,
    signs: Sequence[float],
    draws: int,
    seed: int,
    chosen: Mapping[str, Figure],
) -> dict[str, Interval]:
    """A signed sum of mean figures, on all images and on every resample."""
    for side in sides:
        for shares in side:
            _check(truth, shares, clusters)
    counts = np.concatenate(
        [np.ones((1, len(truth)), dtype=np.int64), resamples(truth, clusters, draws=draws, seed=seed)]
    )
    found = {}
    for name, figure in chosen.items():
        values = np.zeros(len(counts))
        for sign, side in zip(signs, sides, strict=True):
            for shares in side:
                parts = [figure(truth, shares, counts[at : at + _DRAWS]) for at in range(0, len(counts), _DRAWS)]
                values += sign * np.concatenate(parts) / len(side)
        resampled = values[1:]
        found[name] = percentile_interval(float(values[0]), resampled[np.isfinite(resampled)])
    return found


def _confusion(truth: Integers, shares: Floats, counts: Integers) -> Integers:
    """Images of each class (rows) that are called each class (columns), (D, C, C)."""
    classes = shares.shape[1]
    cells = np.eye(classes * classes, dtype=np.int64)[truth * classes + shares.argmax(1)]
    matrix: Integers = (counts @ cells).reshape(len(counts), classes, classes)
    return matrix


def _over_classes(
    truth: Integers,
    shares: Floats,
    counts: Integers,
    measure: Callable[[npt.NDArray[np.bool_], Floats, Integers], Floats],
) -> Floats:
    if shares.shape[1] == 2:
        return measure(truth == 1, shares[:, 1], counts)
    return _mean(
        np.stack([measure(truth == label, shares[:, label], counts) for label in range(shares.shape[1])], axis=1)
    )


def _area(positive: npt.NDArray[np.bool_], scores: Floats, counts: Integers) -> Floats:
    """Share of pairs in which the positive image has the higher score, ties half; NaN where there is no pair."""
    hits, others = _by_score(positive, scores, counts)
    pairs = hits.sum(1) * others.sum(1)
    below = np.cumsum(others, axis=1) - 0.5 * others
    return np.where(pairs > 0, (hits * below).sum(1) / np.maximum(pairs, 1), np.nan)


def _precision(positive: npt.NDArray[np.bool_], scores: Floats, counts: Integers) -> Floats:
    """Mean precision over the positive images, from the highest score down; NaN where there is none."""
    hits, others = _by_score(positive, -scores, counts)
    above = np.cumsum(hits, axis=1)
    precision = above / np.maximum(above + np.cumsum(others, axis=1), 1)
    total = hits.sum(1)
    return np.where(total > 0, (hits * precision).sum(1) / np.maximum(total, 1), np.nan)


def _by_score(positive: npt.NDArray[np.bool_], scores: Floats, counts: Integers) -> tuple[Integers, Integers]:
    """How often positive and other images have each score, ascending: (D, S) twice."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) > 0]))
    ordered = counts[:, order]
    return (
        np.add.reduceat(ordered * positive[order], starts, axis=1),
        np.add.reduceat(ordered * ~positive[order], starts, axis=1),
    )


def _mean(values: Floats) -> Floats:
    """Mean over classes (D, C) -> (D,), of those that are there."""
    known = np.isfinite(values)
    found: Floats = np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1)
    return found


def _check(truth: Integers, shares: Floats, clusters: Integers) -> None:
    if shares.ndim != 2 or len(shares) != len(truth) or len(clusters) != len(truth):
        raise InputError(
            f"{len(truth)} classes, shares of shape {shares.shape} and {len(clusters)} clusters do not fit each other"
        )
    if len(np.unique(truth)) < 2:
        raise InputError(f"all {len(truth)} images are of one class, so that nothing can be told apart")
