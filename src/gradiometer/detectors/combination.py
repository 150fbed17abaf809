"""Scores of several layers as one: a logistic regression that has seen known images and challenges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegressionCV

from gradiometer.errors import InputError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

_FEWEST = 10
"""Images of each side below which there is nothing to learn from."""


@dataclass(frozen=True, eq=False)
class Combination:
    """Weights of standardised layer scores.

    The feature ensemble of K. Lee et al. (NeurIPS 2018): `LogisticRegressionCV` of scikit-learn, five folds and ten
    strengths of regularisation, with both sides weighing the same. They give it the raw scores; here each layer is
    standardised on the training rows first, without which the solver does not converge on distances of a thousand.

    Attributes:
        mean: Of every layer score (L,).
        deviation: Of every layer score (L,).
        weights: (L,).
        intercept: A number.
    """

    mean: Floats
    deviation: Floats
    weights: Floats
    intercept: float

    @classmethod
    def fit(cls, known: Floats, challenges: Floats, seed: int = 0) -> Combination:
        """Learn from layer scores (N, L) of known images and (M, L) of challenges.

        Raises:
            InputError: Fewer than ten of either.
        """
        if min(len(known), len(challenges)) < _FEWEST:
            raise InputError(
                f"{len(known)} known image(s) and {len(challenges)} challenge(s) are too few to combine layers; give "
                f"{_FEWEST} or more of each"
            )
        values = np.concatenate([known, challenges])
        mean, deviation = values.mean(0), values.std(0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        target = np.repeat([0, 1], [len(known), len(challenges)])
        order = np.random.default_rng(seed).permutation(len(target))
        regression = LogisticRegressionCV(
            l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy", class_weight="balanced", max_iter=1000
        )
        regression.fit(((values - mean) / deviation)[order], target[order])
        return cls(mean, deviation, regression.coef_[0].astype(np.float64), float(regression.intercept_[0]))

    def score(self, values: Floats) -> Floats:
        """Log-odds (N,) that layer scores (N, L) are those of a challenge."""
        scores: Floats = ((values - self.mean) / self.deviation) @ self.weights + self.intercept
        return scores

    def state(self) -> dict[str, Array]:
        """The arrays that [restore][gradiometer.detectors.combination.Combination.restore] takes."""
        return {
            "mean": self.mean,
            "deviation": self.deviation,
            "weights": self.weights,
            "intercept": np.array([self.intercept]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> Combination:
        """Build it from its state."""
        mean, deviation, weights, intercept = (
            np.asarray(state[name], dtype=np.float64) for name in ("mean", "deviation", "weights", "intercept")
        )
        return cls(mean, deviation, weights, float(intercept[0]))
