"""The subspace in which class means lie, and how much of a value lies in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from gradiometer.errors import InputError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

_RANK = 1e-12
"""Share of the largest eigenvalue below which one is rounding."""


@dataclass(frozen=True, eq=False)
class MeanSubspace:
    """The principal subspace of class means around their centre.

    Attributes:
        centre: Mean of the class means (P,).
        basis: Orthonormal directions (K, P).

    Example:
        >>> found = MeanSubspace.fit(np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]), 0.99)
        >>> inside, whole = found.squares(np.array([[3.0, 0, 4]]))
        >>> round(float(inside[0]), 9), float(whole[0])
        (9.0, 25.0)
    """

    centre: Floats
    basis: Floats

    @classmethod
    def fit(cls, means: Floats, share: float) -> Self:
        """Take the fewest principal directions that hold a share of the spread of the means.

        They come from the eigenvectors of the (C, C) matrix of inner products, so that no (P, P) matrix is needed.

        Args:
            means: One for each class (C, P).
            share: Above 0, at most 1.

        Returns:
            The subspace.

        Raises:
            InputError: The means are all the same.
        """
        centre = means.mean(0)
        spread = means - centre
        values, vectors = np.linalg.eigh(spread @ spread.T)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        if not values[0] > 0:
            raise InputError("the class means are all the same, so that they span no subspace")
        rank = int(np.count_nonzero(values > _RANK * values[0]))
        enough = int(np.searchsorted(np.cumsum(values) / values.sum(), share)) + 1
        kept = min(rank, enough)
        basis = (vectors[:, :kept] / np.sqrt(values[:kept])).T @ spread
        return cls(centre, basis)

    def squares(self, values: Floats) -> tuple[Floats, Floats]:
        """How much of each value lies in the subspace.

        Args:
            values: (N, P).

        Returns:
            Squared norms (N,) of the part in it and of the whole, both from the centre.
        """
        moved = values - self.centre
        return np.square(moved @ self.basis.T).sum(1), np.square(moved).sum(1)

    def state(self) -> dict[str, Array]:
        """Everything, as arrays by name."""
        return {"centre": self.centre, "basis": self.basis}

    @classmethod
    def restore(cls, state: Mapping[str, Array]) -> Self:
        """Take back what `state` gave."""
        return cls(state["centre"].astype(np.float64), state["basis"].astype(np.float64))


def outside(inside: Floats, whole: Floats) -> Floats:
    """One minus the cosine between values and their part in a subspace; 0 for a value that is the centre.

    Args:
        inside: Squared norms (N,) of the parts in the subspace.
        whole: Squared norms (N,) of the whole.
    """
    cosines = np.sqrt(np.divide(inside, whole, out=np.ones_like(whole), where=whole > 0))
    found: Floats = 1 - np.minimum(cosines, 1.0)
    return found
