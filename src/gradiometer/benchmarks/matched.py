"""The detectors of a table that learn from a slice of a challenge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from gradiometer.benchmarks.columns import Fit, Score, class_labels, pooled
from gradiometer.benchmarks.evidence import INPUT_STEP, PSEUDO_LABEL, Evidence
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.protocols import Indices
from gradiometer.benchmarks.sides import Sides
from gradiometer.detectors import DecisionNetwork
from gradiometer.detectors.combination import Combination
from gradiometer.detectors.gaussians import ClassGaussians
from gradiometer.detectors.lid import lid
from gradiometer.errors import InputError

_FEWEST_BASES = 20
"""Base images of a challenge below which a decision network holds out rows, not base images, for its early stop."""

_NEIGHBOURS, _REFERENCE = 20, 100
"""k of LID and its batch of known images: the published size of a batch, and a k of the published grid."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a matched detector may see.

    Attributes:
        known: Readings of N known images.
        challenge: Readings of M images of one challenge or several.
        known_groups: Base images (N,).
        challenge_groups: Base images (M,), with the same numbering.
        seed: Of the detector.
    """

    known: Evidence
    challenge: Evidence
    known_groups: Indices
    challenge_groups: Indices
    seed: int

    @classmethod
    def of(cls, sides: Sides, seed: int) -> Lesson:
        """The rows of both sides that are not tested."""
        return cls(sides.known.seen, sides.challenge.seen, sides.known.seen_groups, sides.challenge.seen_groups, seed)


@dataclass(frozen=True)
class Learner:
    """A matched detector that a table can show.

    Attributes:
        name: Its name.
        learn: Trains it; what comes out maps readings of N images to outlier scores (N,).
        control: Whether it reads forward-only statistics, as the control of a gradient detector.
        needs: Name of a direct reading without which there is nothing to learn from, or empty.
        seeded: Whether another seed makes another detector.
    """

    name: str
    learn: Callable[[Fit, Lesson], Score]
    control: bool = False
    needs: str = ""
    seeded: bool = True


def _network(pick: Callable[[Evidence], Floats]) -> Callable[[Fit, Lesson], Score]:
    """The decision network of the lecture on some readings."""

    def learn(_: Fit, lesson: Lesson) -> Score:
        bases = lesson.challenge_groups
        network = DecisionNetwork(seed=lesson.seed).fit(
            pick(lesson.known),
            pick(lesson.challenge),
            lesson.known_groups,
            bases if len(np.unique(bases)) >= _FEWEST_BASES else None,
        )
        return lambda evidence: network.score(pick(evidence))

    return learn


def wide_features(evidence: Evidence) -> Floats:
    """Forward-only statistics (N, L + T) as wide as those of Purview: activation norms and squared pooled features.

    The penultimate features come first; the rest is taken evenly from the layers before them. Squares, because the
    decision network works on logs.
    """
    features, earlier = evidence.layers[-1], np.concatenate(evidence.layers[:-1] or evidence.layers, axis=1)
    count = evidence.norms.shape[1]
    last = _evenly(features, count)
    parts = [last, _evenly(earlier, count - last.shape[1])]
    return np.concatenate([evidence.activations, *(np.square(part.astype(np.float64)) for part in parts)], axis=1)


def _joined(*parts: Floats) -> Floats:
    return np.concatenate(parts, axis=1)


def _evenly(values: Floats | np.ndarray, count: int) -> np.ndarray:
    """At most so many columns, evenly spread."""
    places = np.linspace(0, values.shape[1] - 1, min(count, values.shape[1])).round().astype(np.int64)
    return values[:, np.unique(places)]


def _feature_ensemble(fit: Fit, lesson: Lesson) -> Score:
    """Mahalanobis distances of all layers, combined by a logistic regression (K. Lee et al., NeurIPS 2018)."""
    labels = class_labels(fit)
    gaussians = [ClassGaussians.fit(values, labels, shrink=False) for values in pooled(fit.evidence)]

    def distances(evidence: Evidence) -> Floats:
        return np.stack([g.nearest(v) / 2 for g, v in zip(gaussians, pooled(evidence), strict=True)], axis=1)

    combination = Combination.fit(distances(lesson.known), distances(lesson.challenge), lesson.seed)
    return lambda evidence: combination.score(distances(evidence))


def _stepped_ensemble(_: Fit, lesson: Lesson) -> Score:
    """The same after an input step for each layer: its distances need the images and were read with them."""

    def distances(evidence: Evidence) -> Floats:
        return evidence.direct[INPUT_STEP]

    combination = Combination.fit(distances(lesson.known), distances(lesson.challenge), lesson.seed)
    return lambda evidence: combination.score(distances(evidence))


def _dimensionality(_: Fit, lesson: Lesson) -> Score:
    """Local intrinsic dimensionality of all layers among a batch of known images, combined in the same way."""
    count = len(lesson.known)
    drawn = np.random.default_rng(lesson.seed).permutation(count)[: min(_REFERENCE, count // 2)]
    others = np.setdiff1d(np.arange(count), drawn)
    reference = pooled(lesson.known.select(drawn))
    neighbours = min(_NEIGHBOURS, len(drawn))

    def dimensions(evidence: Evidence) -> Floats:
        pairs = zip(pooled(evidence), reference, strict=True)
        return np.stack([lid(cdist(values, known), neighbours) for values, known in pairs], axis=1)

    combination = Combination.fit(dimensions(lesson.known.select(others)), dimensions(lesson.challenge), lesson.seed)
    return lambda evidence: combination.score(dimensions(evidence))


LEARNERS: tuple[Learner, ...] = (
    Learner("Purview", _network(lambda evidence: evidence.statistics)),
    Learner("Purview with channels", _network(lambda evidence: _joined(evidence.statistics, evidence.channels))),
    Learner("Gradient norms", _network(lambda evidence: evidence.norms)),
    Learner("Control", _network(lambda evidence: evidence.activations), control=True),
    Learner("Control (features)", _network(wide_features), control=True),
    Learner(
        "Control with confidence",
        _network(lambda evidence: _joined(evidence.activations, evidence.probabilities)),
        control=True,
    ),
    Learner(
        "Control with channels",
        _network(lambda evidence: _joined(evidence.activations, evidence.channels)),
        control=True,
    ),
    Learner("Mahalanobis FE", _feature_ensemble, seeded=False),
    Learner("Mahalanobis P+FE", _stepped_ensemble, needs=INPUT_STEP, seeded=False),
    Learner("LID", _dimensionality),
)
"""All matched detectors, in the order of a table. One more is one entry.

Purview reads the squared norms of gradients and, from the same pass, of activations; `Gradient norms` is the published
selection. The controls read activation norms alone, with pooled features up to the width of Purview, and with the
largest softmax probabilities, which a gradient knows too. With channels, both read all channels of ten layers and these
probabilities, so that the gradients are all that is between them.
"""


TRUST: tuple[Learner, ...] = (
    Learner("Pseudo-label norms", _network(lambda evidence: evidence.direct[PSEUDO_LABEL]), needs=PSEUDO_LABEL),
    Learner(
        "Pseudo-label with confidence",
        _network(lambda e: _joined(e.activations, e.direct[PSEUDO_LABEL], e.probabilities)),
        needs=PSEUDO_LABEL,
    ),
    Learner("Purview with class", _network(lambda e: _joined(e.statistics, e.probabilities, e.predicted))),
    Learner(
        "Control with class", _network(lambda e: _joined(e.activations, e.probabilities, e.predicted)), control=True
    ),
    Learner("Confidence alone", _network(lambda evidence: evidence.probabilities), control=True),
)
"""Detectors for wrong predictions, shown where they are asked for by name.

Squared gradient norms under the predicted label are what Oberdiek et al. (ANNPR 2018) classify predictions by, there
with further metrics of the same gradient and the entropy beside them, and by a logistic regression. The second reads
what `Control with confidence` reads too, so that the gradients are all that is between them. The next two know which
class is predicted as well: a damaged image is often taken for one and the same class, which is then mostly wrong, and
gradients tell classes apart. The last has learnt from the largest softmax probabilities and nothing else.
"""


def learners(names: tuple[str, ...] | None, evidence: Evidence) -> tuple[Learner, ...]:
    """The matched detectors of a table.

    Args:
        names: Which ones; all of `LEARNERS` when None.
        evidence: Any readings, which say what there is to learn from.

    Raises:
        InputError: There is no detector of a name.
    """
    every = (*LEARNERS, *TRUST)
    there = [learner.name for learner in every]
    if unknown := [name for name in names or () if name not in there]:
        raise InputError(f"there is no matched detector {unknown[0]!r}; there are: {', '.join(there)}")
    return tuple(
        learner
        for learner in (LEARNERS if names is None else every)
        if (names is None or learner.name in names) and (not learner.needs or learner.needs in evidence.direct)
    )
