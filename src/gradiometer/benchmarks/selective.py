"""Selective prediction: what a score is worth when the least trustworthy predictions are refused.

All figures here depend on the share of wrong predictions: right and wrong ones have to come in true proportion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks.metrics import Floats, Integers, Interval, Pair, check_pairs, percentile_interval
from gradiometer.errors import InputError

Groups = tuple[npt.ArrayLike, npt.ArrayLike]
"""Base images of right predictions (N,) and of wrong ones (M,), with one numbering."""

COVERAGES = {"accuracy": 100, "accuracy_at_95": 95, "accuracy_at_80": 80}
"""Figures of accuracy -> how many percent of the predictions are kept."""

_CHUNK = 1 << 19
"""Cells (draws times predictions) of one bootstrap step."""


@dataclass(frozen=True)
class Selective:
    """What is left of errors when predictions are refused by a score, the highest first.

    Kept predictions are the least suspicious k of n; their risk is the share of wrong ones, their coverage k / n. Among
    equal scores the order is drawn, and a figure is its mean over all orders.

    Attributes:
        aurc: Area under the risk-coverage curve: the mean risk over k = 1 ... n, lower = better (Geifman, Uziel and
            El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019).
        excess_aurc: The same minus that of a score that puts all wrong predictions last (ibid.), which depends on the
            model alone; 0 = perfect.
        accuracy: Share of right predictions when all are kept, which no score can change.
        accuracy_at_95: When at least 95 % are kept.
        accuracy_at_80: When at least 80 % are kept.
        right: Number of right predictions.
        wrong: Number of wrong predictions.
    """

    aurc: Interval
    excess_aurc: Interval
    accuracy: Interval
    accuracy_at_95: Interval
    accuracy_at_80: Interval
    right: int
    wrong: int

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`."""
        intervals = {name: Interval(**entries[name]) for name in FIGURES}
        return cls(**intervals, right=int(entries["right"]), wrong=int(entries["wrong"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, for a record."""
        return asdict(self)


FIGURES: tuple[str, ...] = tuple(field.name for field in fields(Selective) if field.name not in ("right", "wrong"))
"""Names of the figures, in the order of `Selective`."""


def evaluate(
    runs: Sequence[Pair], groups: Groups, *, seed: int = 0, draws: int = 1000, confidence: float = 0.95
) -> Selective:
    """All figures as means over several trainings of one detector, with percentile bootstrap intervals.

    Whole base images are resampled, right and wrong ones together, so that the intervals hold the uncertainty about the
    share of wrong predictions too.

    Args:
        runs: For each training outlier scores of right predictions (N,) and of wrong ones (M,), of the same images in
            the same order, in their true proportion.
        groups: Their base images.
        seed: Seeds the resampling; two detectors with the same seed and groups see the same resamples.
        draws: Number of resamples; 0 gives intervals without width.
        confidence: Share of the resamples inside the interval.

    Returns:
        The figures.

    Raises:
        InputError: If there is no run, runs or groups differ in their numbers of images, or scores are not finite.

    Example:
        >>> found = evaluate([([0.1, 0.2, 0.4, 0.5], [0.3])], (range(4), [4]), draws=0)
        >>> round(found.aurc.value, 4)  # risks 0, 0, 1/3, 1/4, 1/5
        0.1567
    """
    values, drawn = resampled(runs, groups, seed=seed, draws=draws)
    intervals = {name: percentile_interval(values[name], drawn[name], confidence=confidence) for name in FIGURES}
    return Selective(**intervals, right=len(np.asarray(runs[0][0])), wrong=len(np.asarray(runs[0][1])))


def resampled(
    runs: Sequence[Pair], groups: Groups, *, seed: int = 0, draws: int = 1000
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Every figure as its mean over several trainings, on all images and on every resample (draws,).

    Args:
        runs: As for `evaluate`.
        groups: As for `evaluate`.
        seed: As for `evaluate`.
        draws: As for `evaluate`.

    Raises:
        InputError: As `evaluate`.
    """
    pairs = check_pairs(runs)
    first, second = (np.asarray(side) for side in groups)
    if (len(first), len(second)) != tuple(len(side) for side in pairs[0]):
        raise InputError(
            f"{len(first)} and {len(second)} base images for {len(pairs[0][0])} right and {len(pairs[0][1])} wrong "
            "predictions; give one for each"
        )
    _, base = np.unique(np.concatenate([first, second]), return_inverse=True)
    ordered = [_Ordered.of(*pair) for pair in pairs]
    once = np.ones((1, len(base)), dtype=np.int64)
    values = {name: float(np.mean([one.figures(once)[name][0] for one in ordered])) for name in FIGURES}
    parts = [_mean([one.figures(counts) for one in ordered]) for counts in _draw(base, seed=seed, draws=draws)]
    drawn = {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in FIGURES}
    return values, drawn


def risk_coverage(right: npt.ArrayLike, wrong: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The risk-coverage curve: the share of wrong predictions among those that are kept, at every threshold.

    Args:
        right: Outlier scores (N,) of right predictions.
        wrong: Those of wrong ones (M,), in their true proportion.

    Returns:
        Coverage (S,), ascending to 1, and risk (S,), at each of the S different scores.

    Raises:
        InputError: If a side is empty, or scores are not finite.

    Example:
        >>> coverage, risk = risk_coverage([0.1, 0.2], [0.2, 0.9])
        >>> coverage.tolist(), risk.round(3).tolist()
        ([0.25, 0.75, 1.0], [0.0, 0.333, 0.5])
    """
    [pair] = check_pairs([(right, wrong)])
    ordered = _Ordered.of(*pair)
    images, errors = (np.cumsum(part[0]) for part in ordered.blocks(np.ones((1, sum(map(len, pair))), dtype=np.int64)))
    return images / images[-1], errors / images


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Predictions in the order of their scores, the most trustworthy first.

    Attributes:
        order: Rows (N,) in this order, right predictions being numbered first.
        wrong: Which of the ordered rows are wrong (N,).
        starts: Where each different score begins (S,).
    """

    order: Integers
    wrong: npt.NDArray[np.bool_]
    starts: Integers

    @classmethod
    def of(cls, right: Floats, wrong: Floats) -> Self:
        scores = np.concatenate([right, wrong])
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) > 0]))
        return cls(order, order >= len(right), starts)

    def blocks(self, counts: Integers) -> tuple[Integers, Integers]:
        """From how often each row was drawn (D, N): predictions, and wrong ones, at each different score (D, S)."""
        ordered = counts[:, self.order]
        both = ordered, ordered * self.wrong
        if len(self.starts) == len(self.order):
            return both
        images, errors = (np.add.reduceat(part, self.starts, axis=1) for part in both)
        return images, errors

    def figures(self, counts: Integers) -> dict[str, Floats]:
        """The figures (D,) from how often each row was drawn (D, N)."""
        images, errors = self.blocks(counts)
        kept, kept_errors = np.cumsum(images, axis=1), np.cumsum(errors, axis=1)
        before, before_errors = kept - images, kept_errors - errors
        # At a score nobody has in this draw both are zero: the maximum keeps 0 / 0 out and changes nothing else.
        rate = errors / np.maximum(images, 1)
        total, total_errors = kept[:, -1], kept_errors[:, -1]
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, total.max() + 1))])
        # Of a block of m equal scores, e of them wrong, j are kept before k is reached: the expected risk there is
        # (E + j e/m) / (K + j), which is e/m + (E - K e/m) / (K + j); its sum over j has harmonic numbers.
        risks = errors + (before_errors - rate * before) * (harmonic[kept] - harmonic[before])
        aurc = risks.sum(1) / total
        right = total - total_errors
        perfect = (total_errors - right * (harmonic[total] - harmonic[right])) / total
        found: dict[str, Floats] = {"aurc": aurc, "excess_aurc": aurc - perfect}
        for name, percent in COVERAGES.items():
            wanted = -(-percent * total // 100)
            block = np.argmax(kept >= wanted[:, None], axis=1)[:, None]
            at = [np.take_along_axis(values, block, 1)[:, 0] for values in (before, before_errors, rate)]
            found[name] = 1 - (at[1] + (wanted - at[0]) * at[2]) / wanted
        return found


def _draw(base: Integers, *, seed: int, draws: int) -> Iterator[Integers]:
    """How often each row was drawn (draws of the chunk, N): as often as its base image, given for each row (N,)."""
    count = int(base.max()) + 1
    seeds = np.random.SeedSequence(seed).spawn(draws)
    rows = max(1, _CHUNK // len(base))
    for start in range(0, draws, rows):
        generators = map(np.random.default_rng, seeds[start : start + rows])
        drawn = [np.bincount(generator.integers(0, count, count), minlength=count) for generator in generators]
        yield np.stack(drawn)[:, base]


def _mean(found: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: np.mean([one[name] for one in found], axis=0) for name in FIGURES}
