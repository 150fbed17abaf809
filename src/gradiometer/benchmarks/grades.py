"""How well a score follows the grades of physicians, each figure with a bootstrap interval over images or patients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from gradiometer.benchmarks.metrics import Floats, Integers, Interval, percentile_interval
from gradiometer.errors import InputError
from gradiometer.severity.labels import Cuts, checked_grades, checked_scores

SEVERE = 2
"""Grade from which on a scan counts as severe: moderate retinopathy, which is referred to a specialist."""


@dataclass(frozen=True)
class Agreement:
    """How well a score follows grades.

    Attributes:
        spearman: Rank correlation, in [-1, 1]; None where not all scores are of one model.
        partial: Rank correlation when nuisances are held fixed; None when there are none, or they explain all.
        kappa: Quadratic-weighted kappa of grades and cut scores, in [-1, 1]; None without cuts, or when all of both
            are one grade.
        auroc: Share of pairs of a severe and another scan in which the severe one has the higher score; None when all
            scans are severe, or none is.
        scans: Number of scans.
        severe: How many of them are severe.
    """

    spearman: Interval | None
    partial: Interval | None
    kappa: Interval | None
    auroc: Interval | None
    scans: int
    severe: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, for a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        found: dict[str, Any] = {entry.name: entries[entry.name] for entry in fields(cls)}
        intervals = {name: Interval(**value) for name, value in found.items() if isinstance(value, dict)}
        return cls(**found | intervals)


def agreement(
    scores: npt.ArrayLike,
    grades: npt.ArrayLike,
    *,
    cuts: Cuts | None = None,
    nuisances: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    severe: int = SEVERE,
    seed: int = 0,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Agreement:
    """Compare scores with grades.

    Args:
        scores: (N,), higher = more severe.
        grades: (N,) whole numbers from 0, at least two different ones.
        cuts: Learnt from other scans; needed for kappa.
        nuisances: (N, Q) measurements of each scan that say nothing about the disease, such as its brightness.
        groups: Whose scan each is (N,); patients are then resampled as a whole. Scans are, when it is None.
        severe: Grade from which on a scan is severe.
        seed: Of the resampling; two scores of the same scans see the same resamples.
        draws: Number of resamples; 0 gives intervals without width. A resample in which a figure means nothing, such
            as one of a single grade, does not count for it.
        confidence: Share of the resamples inside the interval.

    Returns:
        The figures.

    Raises:
        InputError: Lengths that differ, or grades or scores that are all equal.

    Example:
        >>> found = agreement([0.1, 0.2, 0.3, 0.4], [0, 0, 2, 3], cuts=Cuts.fit([0.1, 0.25, 0.4], [0, 2, 3]))
        >>> round(found.spearman.value, 3), found.auroc.value
        (0.949, 1.0)
    """
    values = checked_scores(scores)
    right = checked_grades(grades, len(values))
    if right.min() == right.max():
        raise InputError(f"all {len(right)} grades are {right[0]}, so there is nothing to agree with")
    if values.min() == values.max():
        raise InputError(f"all {len(values)} scores are {values[0]}, so they order nothing")
    held = None if nuisances is None else np.asarray(nuisances, np.float64).reshape(len(values), -1)
    rows = resamples(len(values), groups, seed=seed, draws=draws)

    def measured(figure: Callable[[npt.NDArray[np.intp]], float]) -> Interval | None:
        value = figure(np.arange(len(values)))
        if not math.isfinite(value):
            return None
        found = np.array([figure(one) for one in rows])
        return percentile_interval(value, found[np.isfinite(found)], confidence=confidence)

    some = bool((right >= severe).any() and (right < severe).any())
    said = None if cuts is None else cuts.label(values)
    return Agreement(
        spearman=measured(lambda at: spearman(values[at], right[at])),
        partial=None if held is None else measured(lambda at: partial_spearman(values[at], right[at], held[at])),
        kappa=None if said is None else measured(lambda at: weighted_kappa(said[at], right[at])),
        auroc=measured(lambda at: _auroc(values[at], right[at] >= severe)) if some else None,
        scans=len(values),
        severe=int((right >= severe).sum()),
    )


def difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    grades: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Rank correlation of one score with the grades minus that of another, with a paired bootstrap interval.

    Args:
        first: (N,) scores.
        second: (N,) other scores of the same scans.
        grades: (N,) whole numbers from 0.
        groups: As for `agreement`.
        seed: Of the resampling.
        draws: Number of resamples.
        confidence: Share of the resamples inside the interval.

    Returns:
        The difference, in [-2, 2]; positive in favour of `first`.

    Raises:
        InputError: Lengths that differ.
    """
    one, other = checked_scores(first), checked_scores(second)
    if len(one) != len(other):
        raise InputError(f"a paired difference needs the same scans, got {len(one)} and {len(other)} scores")
    right = checked_grades(grades, len(one))
    found = [
        spearman(one[at], right[at]) - spearman(other[at], right[at])
        for at in resamples(len(one), groups, seed=seed, draws=draws)
    ]
    finite = np.array([value for value in found if math.isfinite(value)])
    return percentile_interval(spearman(one, right) - spearman(other, right), finite, confidence=confidence)


def resamples(count: int, groups: npt.ArrayLike | None, *, seed: int, draws: int) -> list[npt.NDArray[np.intp]]:
    """Rows of each bootstrap resample: scans with replacement, or all scans of patients with replacement.

    Raises:
        InputError: There is not one group for each scan.
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        return list(generator.integers(0, count, (draws, count)))
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(numbers) != count:
        raise InputError(f"{len(numbers)} groups for {count} scans; give one for each")
    members = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    drawn = generator.integers(0, len(members), (draws, len(members)))
    return [np.concatenate([members[number] for number in one]) for one in drawn]


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Rank correlation; equal values share their mean rank. NaN when one side is constant."""
    return _correlation(rankdata(first), rankdata(second))


def partial_spearman(first: npt.ArrayLike, second: npt.ArrayLike, nuisances: Floats) -> float:
    """Rank correlation of what linear regression on the ranks of the nuisances (N, Q) leaves of both ranks."""
    columns = np.column_stack([np.ones(len(nuisances)), rankdata(nuisances, axis=0)])
    ranks = np.column_stack([rankdata(first), rankdata(second)])
    left = ranks - columns @ np.linalg.lstsq(columns, ranks, rcond=None)[0]
    # What is explained in full leaves rounding errors, which correlate with anything.
    if (left.std(0) < 1e-9 * np.maximum(ranks.std(0), 1)).any():
        return math.nan
    return _correlation(left[:, 0], left[:, 1])


def weighted_kappa(said: Integers, right: Integers) -> float:
    """Quadratic-weighted kappa (Cohen, 1968): 1 for the same grades everywhere, 0 for what chance gives.

    Args:
        said: Grades (N,) from 0.
        right: Grades (N,) from 0.

    Returns:
        At most 1; NaN when all of both are one grade.
    """
    levels = int(max(said.max(), right.max())) + 1
    found = np.bincount(said * levels + right, minlength=levels**2).reshape(levels, levels)
    chance = np.outer(found.sum(1), found.sum(0)) / len(said)
    weights = np.subtract.outer(np.arange(levels), np.arange(levels)) ** 2
    expected = (weights * chance).sum()
    return float(1 - (weights * found).sum() / expected) if expected else math.nan


def _correlation(first: Floats, second: Floats) -> float:
    first, second = first - first.mean(), second - second.mean()
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / lengths if lengths else math.nan


def _auroc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the curve from the ranks (Mann and Whitney, 1947); NaN without both kinds."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return math.nan
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))
