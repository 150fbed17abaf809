"""How well scores separate known inputs from a challenge, each figure with a bootstrap interval over images.

Known inputs are the positive class and a low score means confidence, so the definitions are those of the tables that
this project compares itself with (K. Lee et al., "A Simple Unified Framework for Detecting OOD Samples and Adversarial
Attacks", NeurIPS 2018, evaluation code). Scores are outlier scores everywhere: higher = less trustworthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from gradiometer.benchmarks.counts import count_figures, draw_counts
from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Pair = tuple[npt.ArrayLike, npt.ArrayLike]
"""Outlier scores of known inputs (N,) and of a challenge (M,)."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, all as shares in [0, 1] (differences in [-1, 1]).

    Attributes:
        value: The figure on all images.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Whether a value lies between both ends."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Metrics:
    """How well a score separates known inputs from a challenge.

    Attributes:
        auroc: Share of pairs (known, challenge) in which the challenge has the higher score; ties count half.
        aupr_in: Average precision with known inputs as the positive class.
        aupr_out: Average precision with the challenge as the positive class.
        detection_accuracy: Largest mean of TPR and TNR over all thresholds (both sets weigh the same).
        tnr_at_95: Share of the challenge that is rejected at the known score whose TPR is closest to 0.95; of two
            equally close ones the one that accepts more known inputs.
        known: Number of known inputs.
        challenge: Number of inputs of the challenge.
    """

    auroc: Interval
    aupr_in: Interval
    aupr_out: Interval
    detection_accuracy: Interval
    tnr_at_95: Interval
    known: int
    challenge: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and numbers, for a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        intervals = {name: Interval(**entries[name]) for name in FIGURES}
        return cls(**intervals, known=int(entries["known"]), challenge=int(entries["challenge"]))


FIGURES: tuple[str, ...] = tuple(field.name for field in fields(Metrics) if field.name not in ("known", "challenge"))
"""Names of the five figures, in the order of `Metrics`."""


def evaluate(
    known_scores: npt.ArrayLike,
    challenge_scores: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 1000,
    confidence: float = 0.95,
) -> Metrics:
    """All figures with percentile bootstrap intervals over images.

    Known inputs and the challenge are resampled separately, so their numbers stay fixed. The intervals say how much
    the figures would move with other images; they do not cover another training run. When the sets are perfectly
    separated, every resample is too and the interval has no width.

    Args:
        known_scores: Outlier scores (N,) of known inputs, finite.
        challenge_scores: Outlier scores (M,) of the challenge, finite.
        seed: Seeds the resampling; two detectors with the same seed and counts see the same resamples.
        draws: Number of resamples; 0 gives intervals without width.
        confidence: Share of the resamples inside the interval.

    Returns:
        The figures.

    Raises:
        InputError: If a set is empty, not one-dimensional, or holds NaN or infinite scores.

    Example:
        >>> metrics = evaluate([0.1, 0.2, 0.3, 0.4], [0.35, 0.6, 0.7, 0.8])
        >>> metrics.auroc.value
        0.9375
    """
    return evaluate_all([(known_scores, challenge_scores)], seed=seed, draws=draws, confidence=confidence)


def evaluate_all(runs: Sequence[Pair], *, seed: int = 0, draws: int = 1000, confidence: float = 0.95) -> Metrics:
    """Each figure as its mean over several trainings of one detector, with intervals over images of that mean.

    Args:
        runs: For each training the scores of known inputs and of the challenge, of the same images in the same order.
        seed: As for `evaluate`.
        draws: As for `evaluate`.
        confidence: As for `evaluate`.

    Returns:
        The figures.

    Raises:
        InputError: As `evaluate`, or if there is no run or the runs differ in their numbers of images.
    """
    pairs = check_pairs(runs)
    if draws < 0 or not 0 < confidence < 1:
        raise InputError(f"draws must be >= 0 and confidence in (0, 1), got {draws} and {confidence}")
    points = [_point(*pair) for pair in pairs]
    resampled = [resample(*pair, seed=seed, draws=draws) for pair in pairs]
    intervals = {
        name: percentile_interval(
            float(np.mean([point[name] for point in points])),
            np.mean([found[name] for found in resampled], axis=0),
            confidence=confidence,
        )
        for name in FIGURES
    }
    known, challenge = pairs[0]
    return Metrics(**intervals, known=len(known), challenge=len(challenge))


def resampled_auroc(runs: Sequence[Pair], *, seed: int = 0, draws: int = 1000) -> tuple[float, Floats]:
    """The mean AUROC of several trainings, on all images and on every resample (draws,).

    Two detectors with the same seed and numbers of images see the same resamples.

    Raises:
        InputError: As `evaluate_all`.
    """
    pairs = check_pairs(runs)
    value = float(np.mean([_point(*pair)["auroc"] for pair in pairs]))
    drawn = np.mean([resample(*pair, seed=seed, draws=draws)["auroc"] for pair in pairs], axis=0)
    return value, drawn


def percentile_interval(value: float, resampled: Floats, *, confidence: float = 0.95) -> Interval:
    """The interval between two percentiles of the resampled values, or of no width when there are none.

    All are rounded to twelve decimals: an area of 1 comes out of the sum of a curve as 1 or as a bit less.
    """
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(resampled) else (value,) * 2
    return Interval(*(round(float(figure), 12) for figure in (value, low, high)))


def resample(known: Floats, challenge: Floats, *, seed: int, draws: int) -> dict[str, Floats]:
    """The five figures on bootstrap resamples.

    All draws of a chunk are done at once on how often each image was drawn, cumulated in the order of the scores.

    Args:
        known: Scores (N,).
        challenge: Scores (M,).
        seed: Seeds the resampling.
        draws: Number of resamples D.

    Returns:
        For each figure its value (D,) on every resample.
    """
    scores = np.concatenate([known, challenge])
    order = np.argsort(scores, kind="stable")
    is_known = order < len(known)
    # Equal scores share one threshold: their counts are added up.
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) > 0]))
    parts: list[dict[str, Floats]] = []
    for counts in draw_counts(len(known), len(challenge), seed=seed, draws=draws):
        ordered = counts[:, order]
        known_counts, challenge_counts = ordered * is_known, ordered * ~is_known
        if len(starts) < len(scores):
            known_counts = np.add.reduceat(known_counts, starts, axis=1)
            challenge_counts = np.add.reduceat(challenge_counts, starts, axis=1)
        parts.append(count_figures(known_counts, challenge_counts))
    return {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in FIGURES}


def check_pairs(runs: Sequence[Pair]) -> list[tuple[Floats, Floats]]:
    """The scores of several runs on the same images."""
    pairs = [(_checked(known, "known"), _checked(challenge, "challenge")) for known, challenge in runs]
    sizes = sorted({(len(known), len(challenge)) for known, challenge in pairs})
    if len(sizes) != 1:
        raise InputError(f"the runs of a detector must have scored the same images, got the numbers {sizes}")
    return pairs


def _checked(scores: npt.ArrayLike, which: str) -> Floats:
    """Scores as float64 (N,), refused when they are empty, of another shape or not finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"{which} scores must be a non-empty one-dimensional array, got shape {values.shape}")
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise InputError(
            f"{len(broken)} of {len(values)} {which} scores are NaN or infinite, the first at row {broken[0]} "
            f"({values[broken[0]]}); drop these rows and report them before evaluating"
        )
    return values


def _point(known: Floats, challenge: Floats) -> dict[str, float]:
    """The five figures on all images; areas by scikit-learn."""
    scores = np.concatenate([known, challenge])
    is_challenge = np.repeat([0, 1], [len(known), len(challenge)])
    _, inverse = np.unique(scores, return_inverse=True)
    known_counts = np.bincount(inverse[: len(known)], minlength=inverse.max() + 1)[None]
    challenge_counts = np.bincount(inverse[len(known) :], minlength=inverse.max() + 1)[None]
    figures = {name: float(values[0]) for name, values in count_figures(known_counts, challenge_counts).items()}
    figures["auroc"] = float(roc_auc_score(is_challenge, scores))
    figures["aupr_in"] = float(average_precision_score(1 - is_challenge, -scores))
    figures["aupr_out"] = float(average_precision_score(is_challenge, scores))
    return figures
