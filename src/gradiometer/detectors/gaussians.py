"""Gaussians around the class means with one covariance for all classes, as a distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SMALLEST = 1e-12
"""Smallest variance that is told from none, for values whose size is around 1."""


@dataclass(frozen=True, eq=False)
class ClassGaussians:
    """Means of K classes and the covariance within them, shrunk as Ledoit and Wolf (2004) do.

    Values are moved into coordinates in which the covariance is the identity, once, so that a distance to any mean is
    an ordinary one (K. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks", NeurIPS 2018, with that covariance instead of the empirical one).

    Attributes:
        classes: Labels of the K classes that were present, ascending.
        centre: Overall mean (D,), which keeps the arithmetic exact.
        root: (D, E) with `root @ root.T` the inverse covariance, E = D unless directions are left out.
        means: The class means in the new coordinates (K, E).

    Example:
        >>> values = np.random.default_rng(0).normal(size=(300, 2)) + np.repeat([[0.0, 0.0], [9.0, 0.0]], 150, 0)
        >>> gaussians = ClassGaussians.fit(values, np.repeat([0, 1], 150))
        >>> gaussians.nearest(np.array([[0.0, 0.0], [9.0, 0.0], [4.5, 0.0]])).round(0)
        array([ 0.,  0., 21.])
    """

    classes: Integers
    centre: Floats
    root: Floats
    means: Floats

    @classmethod
    def fit(cls, values: Floats, labels: Integers, *, shrink: bool = True) -> ClassGaussians:
        """Learn from values (N, D) and labels (N,); a class without a sample has no mean.

        Args:
            values: Finite, (N, D).
            labels: Class of each row.
            shrink: Whether the covariance is shrunk. The empirical one leaves out directions without variance, as its
                pseudo-inverse does.
        """
        classes, positions = np.unique(labels, return_inverse=True)
        centre = values.mean(0)
        centred = values - centre
        means = np.stack([centred[positions == k].mean(0) for k in range(len(classes))])
        within = centred - means[positions]
        covariance = (
            LedoitWolf(assume_centered=True).fit(within).covariance_ if shrink else within.T @ within / len(values)
        )
        variances, directions = np.linalg.eigh(covariance)
        if not shrink:
            kept = variances > len(variances) * np.finfo(np.float32).eps * variances.max()
            variances, directions = variances[kept], directions[:, kept]
        root = directions / np.sqrt(np.maximum(variances, _SMALLEST))
        return cls(classes.astype(np.int64), centre, root, means @ root)

    def squared_distances(self, values: Floats) -> Floats:
        """Squared Mahalanobis distances (N, K) of values (N, D) to the class means."""
        moved = (values - self.centre) @ self.root
        cross = moved @ self.means.T
        squares = np.square(moved).sum(1)[:, None] - 2 * cross + np.square(self.means).sum(1)
        distances: Floats = np.maximum(squares, 0.0)
        return distances

    def nearest(self, values: Floats) -> Floats:
        """Squared distance (N,) to the nearest class mean."""
        distances: Floats = self.squared_distances(values).min(1)
        return distances

    def to(self, values: Floats, labels: Integers) -> Floats:
        """Squared distance (N,) to the mean of a given class each; to the nearest one where that class has no mean."""
        distances = self.squared_distances(values)
        places = np.minimum(np.searchsorted(self.classes, labels), len(self.classes) - 1)
        known = self.classes[places] == labels
        chosen: Floats = np.where(known, distances[np.arange(len(values)), places], distances.min(1))
        return chosen

    def state(self) -> dict[str, Array]:
        """The arrays that [restore][gradiometer.detectors.gaussians.ClassGaussians.restore] takes."""
        return {"classes": self.classes, "centre": self.centre, "root": self.root, "means": self.means}

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> ClassGaussians:
        """Build it from its state."""
        centre, root, means = (np.asarray(state[name], dtype=np.float64) for name in ("centre", "root", "means"))
        return cls(np.asarray(state["classes"], dtype=np.int64), centre, root, means)


def unit(values: npt.ArrayLike) -> Floats:
    """Rows (N, D) divided by their L2 norm, as float64; rows of zeros stay."""
    array = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    rows: Floats = array / np.where(lengths > 0, lengths, 1.0)
    return rows
