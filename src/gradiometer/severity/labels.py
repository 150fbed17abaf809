"""Severity labels: scores cut into bins, and cuts that are learnt from graded scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Way = Literal["equal-frequency", "equal-width"]
"""Whether bins hold equally many scans, or are equally wide."""

FEWEST, MOST = 2, 10_000
"""Bins that scores can be cut into."""


def severity_labels(
    scores: npt.ArrayLike,
    bins: int,
    way: Way = "equal-frequency",
    *,
    keys: Sequence[str] | None = None,
) -> Integers:
    """Cut scores into bins; the number of the bin is the severity label.

    With `equal-frequency` no two bins differ by more than one scan. Equal scores are ordered by their keys, so that the
    labels do not depend on the order of the scans; without keys they are ordered by their rows. With `equal-width` the
    range of the scores is divided evenly, equal scores share a bin, and bins may be empty.

    Args:
        scores: (N,), higher = more severe.
        bins: Number of bins, 2 to 10,000 and at most N.
        way: See above.
        keys: What names each scan, all different.

    Returns:
        Labels (N,) int64 from 0, the least severe, to bins - 1.

    Raises:
        InputError: Scores that are not finite or all equal, too few of them, or keys that are not all different.

    Example:
        >>> (
        ...     severity_labels([0.1, 0.9, 0.2, 0.3], 2).tolist(),
        ...     severity_labels([0.1, 0.9, 0.2, 0.3], 2, "equal-width").tolist(),
        ... )
        ([0, 1, 0, 1], [0, 1, 0, 0])
    """
    values = checked_scores(scores)
    if way not in get_args(Way):
        raise InputError(f"way must be one of {', '.join(get_args(Way))}, got {way!r}")
    if not FEWEST <= bins <= MOST:
        raise InputError(f"{bins} bins are not possible; give {FEWEST} to {MOST:,}")
    if bins > len(values):
        raise InputError(f"{bins} bins are more than the {len(values)} scans; give at most one bin for each scan")
    if values.min() == values.max():
        raise InputError(f"all {len(values)} scores are {values[0]}, so no scan is more severe than another")
    if way == "equal-width":
        # Halves first: the difference of two large scores of opposite sign would overflow.
        low, high = values.min() / 2, values.max() / 2
        shares = (values / 2 - low) / (high - low)
        widths: Integers = np.minimum((shares * bins).astype(np.int64), bins - 1)
        return widths
    ranks = np.empty(len(values), np.int64)
    ranks[_order(values, keys)] = np.arange(len(values))
    labels: Integers = ranks * bins // len(values)
    return labels


@dataclass(frozen=True, eq=False)
class Cuts:
    """Scores at which one grade ends and the next begins, learnt from graded scans.

    Attributes:
        edges: Ascending scores (G - 1,); a scan has the grade of the number of edges that its score exceeds.

    Example:
        >>> cuts = Cuts.fit([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 2])
        >>> cuts.label([0.0, 0.28, 9.0]).tolist()
        [0, 1, 2]
    """

    edges: Floats

    @classmethod
    def fit(cls, scores: npt.ArrayLike, grades: npt.ArrayLike) -> Cuts:
        """Cut so that as many of these scans are in each bin as have that grade.

        Nothing is optimised, and the order of the scores stays: what the bins get right, the scores got right.

        Args:
            scores: (N,) of graded scans, best not those that are tested.
            grades: (N,) whole numbers from 0.

        Raises:
            InputError: Scores or grades that cannot be used.
        """
        values = checked_scores(scores)
        counts = np.bincount(checked_grades(grades, len(values)))
        ordered = np.concatenate([[-np.inf], np.sort(values, kind="stable"), [np.inf]])
        ends = counts.cumsum()[:-1]
        low, high = ordered[ends], ordered[ends + 1]
        inner = np.isfinite(low) & np.isfinite(high)
        edges = np.where(np.isfinite(low), high, low)
        edges[inner] = low[inner] / 2 + high[inner] / 2
        return cls(edges)

    def label(self, scores: npt.ArrayLike) -> Integers:
        """Grades (B,) of scores (B,)."""
        return np.searchsorted(self.edges, checked_scores(scores), side="left").astype(np.int64)


def checked_scores(scores: npt.ArrayLike) -> Floats:
    """Scores as float64 (N,).

    Raises:
        InputError: There is none, or one is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"scores must be one number for each scan, got shape {values.shape}")
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise InputError(
            f"{len(broken)} of {len(values)} scores are NaN or infinite, the first in row {broken[0]}; leave these "
            "scans out"
        )
    return values


def checked_grades(grades: npt.ArrayLike, count: int) -> Integers:
    """Grades as int64 (count,).

    Raises:
        InputError: Their number is wrong, or one is no whole number from 0.
    """
    values = np.asarray(grades)
    if values.shape != (count,) or values.dtype.kind not in "iu" or values.min() < 0:
        raise InputError(
            f"grades must be {count} whole numbers from 0, one for each scan, got {values.dtype} of shape "
            f"{values.shape}"
        )
    return values.astype(np.int64)


def _order(values: Floats, keys: Sequence[str] | None) -> Integers:
    if keys is None:
        return np.argsort(values, kind="stable")
    if len(keys) != len(values) or len(set(keys)) != len(keys):
        raise InputError(f"{len(values)} scores need as many keys, all different; got {len(set(keys))} of {len(keys)}")
    return np.lexsort((np.array(keys, dtype=object).astype(str), values))
