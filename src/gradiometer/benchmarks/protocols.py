"""What a detector may see before the test, as index sets that never share a base image.

All protocols of one table are tested on the same images, so that columns differ by what the detector saw and by
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks.metrics import Metrics, evaluate
from gradiometer.errors import InputError

Indices = npt.NDArray[np.int64]

TRAIN_SHARE, VALIDATION_SHARE = 0.4, 0.1
"""What the decision network sees of the known inputs and of a challenge; the rest, one half, is the test."""

NULL_CONFIDENCE = 0.999
"""Confidence of the interval in the null test: a table holds a handful of them and none may fail by chance."""

_NULL_DRAWS = 1000


@dataclass(frozen=True)
class Split:
    """Rows of one set of images by use. No base image occurs in two of them.

    Attributes:
        train: Rows a decision network is trained on (`matched`). Known-only detectors calibrate on them instead.
        validate: Rows it is stopped early on (`matched`). Known-only detectors calibrate on them too.
        test: Rows that figures are computed on, under every protocol.
    """

    train: Indices
    validate: Indices
    test: Indices

    @property
    def seen(self) -> Indices:
        """Rows that are not tested: all a matched detector may see."""
        return np.concatenate([self.train, self.validate])

    def parts(self) -> Iterator[tuple[str, Indices]]:
        """Name and rows of every part."""
        for entry in fields(self):
            yield entry.name, getattr(self, entry.name)


def split(groups: npt.ArrayLike, *, seed: int = 0) -> Split:
    """40 % for training, 10 % for validation and 50 % for the test, by base image.

    Source: the protocol of the lecture's tables (J. Lee et al., "Probing the Purview of Neural Networks via Gradient
    Analysis", IEEE Access 2023).

    Args:
        groups: Id (N,) of the base image of every row; crops or versions of one image share it.
        seed: Seeds the order of the base images.

    Returns:
        The three index sets, each in ascending order. Shares are of base images.

    Raises:
        InputError: If there are fewer than three base images.
    """
    ids = np.asarray(groups)
    unique, membership = np.unique(ids, return_inverse=True)
    if len(unique) < 3:
        raise InputError(f"a split in 40/10/50 needs at least 3 base images, got {len(unique)}")
    place = np.empty(len(unique), dtype=np.int64)
    place[np.random.default_rng(seed).permutation(len(unique))] = np.arange(len(unique))
    first = round(TRAIN_SHARE * len(unique))
    second = first + max(1, round(VALIDATION_SHARE * len(unique)))
    use = np.digitize(place, [first, second])[membership]
    result = Split(*(np.flatnonzero(use == part).astype(np.int64) for part in range(3)))
    check_disjoint(result, ids)
    return result


def follow(known: Split, known_groups: npt.ArrayLike, groups: npt.ArrayLike) -> Split:
    """The split of images that were made from known ones: each goes where its base image is.

    Args:
        known: Split of the known images.
        known_groups: Id (N,) of the base image of every known row.
        groups: Id (M,) of the base image of every row that was made from them, with the same numbering.

    Returns:
        The three index sets.

    Raises:
        InputError: If a base image is not among the known ones.
    """
    ids, others = np.asarray(known_groups), np.asarray(groups)
    strangers = np.setdiff1d(others, ids)
    if len(strangers):
        raise InputError(f"base image {strangers[0]} is not among the known ones; split these images by themselves")
    return Split(*(np.flatnonzero(np.isin(others, ids[rows])).astype(np.int64) for _, rows in known.parts()))


def halves(rows: npt.ArrayLike, groups: npt.ArrayLike, *, seed: int = 0) -> tuple[Indices, Indices]:
    """Some rows in two halves that share no base image.

    Args:
        rows: Rows (M,) to divide.
        groups: Id (N,) of the base image of every row of the whole set.
        seed: Seeds the order of the base images.

    Returns:
        Both halves, in ascending order.

    Raises:
        InputError: If the rows come from fewer than two base images.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    ids = np.asarray(groups)[chosen]
    unique = np.random.default_rng(seed).permutation(np.unique(ids))
    if len(unique) < 2:
        raise InputError(f"two halves need at least 2 base images, got {len(unique)}")
    first = np.isin(ids, unique[: len(unique) // 2])
    return np.sort(chosen[first]), np.sort(chosen[~first])


def check_disjoint(parts: Split | Mapping[str, npt.ArrayLike], groups: npt.ArrayLike) -> None:
    """Refuse a split in which a base image is in two parts: a detector would be tested on what it has seen.

    Args:
        parts: A split, or rows by name.
        groups: Id (N,) of the base image of every row.

    Raises:
        InputError: Naming both parts and one of the base images they share.
    """
    ids = np.asarray(groups)
    named = dict(parts.parts()) if isinstance(parts, Split) else {k: np.asarray(v) for k, v in parts.items()}
    seen: dict[str, npt.NDArray[np.generic]] = {}
    for name, rows in named.items():
        here = np.unique(ids[rows])
        for other, there in seen.items():
            shared = np.intersect1d(here, there)
            if len(shared):
                raise InputError(
                    f"the split leaks: {len(shared)} base images are in both {other!r} and {name!r}, for example "
                    f"{shared[0]}; split by base image (groups), not by row"
                )
        seen[name] = here


def null_test(
    known_scores: npt.ArrayLike, reencoded_scores: npt.ArrayLike, *, what: str, seed: int = 0, draws: int = 1000
) -> Metrics:
    """Known inputs against other known inputs that took the path of a challenge: nobody may tell them apart.

    A detector that can has found a trace of the handling (another decoder, scaling, layout, or images it was fitted
    on), and its figures on real challenges would partly measure that.

    Args:
        known_scores: Outlier scores (N,) of known inputs.
        reencoded_scores: Outlier scores (M,) of other known inputs, stored and loaded again like a challenge.
        what: Name of the detector and protocol, for the message.
        seed: Seeds the bootstrap.
        draws: Bootstrap resamples, raised to 1,000: with fewer an interval at this confidence would be too short.

    Returns:
        The figures, with intervals at `NULL_CONFIDENCE`.

    Raises:
        InputError: If the interval of the AUROC does not contain 0.5.
    """
    draws = max(draws, _NULL_DRAWS)
    metrics = evaluate(known_scores, reencoded_scores, seed=seed, draws=draws, confidence=NULL_CONFIDENCE)
    if 0.5 not in metrics.auroc:
        raise InputError(
            f"the null test of {what} failed: known images against re-encoded known images give an AUROC of "
            f"{metrics.auroc.value:.3f} ({metrics.auroc.low:.3f} to {metrics.auroc.high:.3f}), which leaves out 0.5. "
            "Both sets must be decoded, resized and scaled the same way, and none may have been fitted on; "
            "until then no other figure of this run can be trusted. (One such comparison in a thousand fails by "
            "chance; with another seed the images are divided anew, and a trace of the handling shows again)"
        )
    return metrics
