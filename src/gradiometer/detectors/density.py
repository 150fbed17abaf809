"""How far the statistics of an input are from those of known images: distance to the nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from gradiometer import given
from gradiometer.detectors.scaling import Floats, LogScale
from gradiometer.errors import InputError, NotFittedError

_QUERIES = 512
"""Rows looked up at once, which bounds the memory of the exact distances."""


class NeighbourDensity:
    """Euclidean distance to the k-th nearest known image, on standardised logs of the statistics.

    A large distance means a low density (Loftsgaarden and Quesenberry, 1965), whichever side a statistic errs to, so
    that no sign has to be known in advance. Columns that are constant over the known images are dropped.

    Args:
        neighbours: k.

    Attributes:
        scale: The scale of the logs, after fit.

    Example:
        >>> known = np.exp(np.random.default_rng(0).normal(size=(500, 3)))
        >>> density = NeighbourDensity().fit(known)
        >>> near, far = density.score(np.exp(np.array([[0.0, 0.0, 0.0], [9.0, -9.0, 9.0]])))
        >>> bool(near < far)
        True
    """

    def __init__(self, neighbours: int = 10) -> None:
        self.neighbours = given.whole("neighbours", neighbours)
        self.scale: LogScale | None = None
        self._reference: Floats | None = None
        self._index: NearestNeighbors | None = None

    def fit(self, values: npt.ArrayLike) -> NeighbourDensity:
        """Remember the statistics of known images.

        Args:
            values: (N, F), non-negative.

        Returns:
            Itself.

        Raises:
            InputError: N is not larger than the number of neighbours, or the values are unusable.
        """
        count = len(np.asarray(values))
        if count <= self.neighbours:
            raise InputError(
                f"{count} known image(s) are too few for {self.neighbours} neighbours; give at least "
                f"{self.neighbours + 1}, better some thousands"
            )
        self.scale = LogScale.fit(values)
        self._remember(self.scale.standardise(values))
        return self

    def score(self, values: npt.ArrayLike) -> Floats:
        """Distance to the k-th nearest known image.

        Args:
            values: (M, F), non-negative.

        Returns:
            (M,) float64, 0 or larger, in standard deviations of the logs.

        Raises:
            InputError: The values are unusable or F differs from that of fit.
            NotFittedError: Before fit.
        """
        if self.scale is None or self._reference is None or self._index is None:
            raise NotFittedError("the density has no known images yet; call fit first")
        queries = self.scale.standardise(values)
        scores = np.empty(len(queries))
        for start in range(0, len(queries), _QUERIES):
            part = queries[start : start + _QUERIES]
            nearest = self._index.kneighbors(part, return_distance=False)
            # The search uses |x|² - 2xy + |y|², which loses half of the digits of a small distance. The neighbours
            # it names are measured again, exactly.
            scores[start : start + _QUERIES] = np.sqrt(np.square(self._reference[nearest] - part[:, None]).sum(-1)).max(
                1
            )
        return scores

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays that [restore][gradiometer.detectors.density.NeighbourDensity.restore] takes."""
        if self.scale is None or self._reference is None:
            raise NotFittedError("the density has nothing to save yet; call fit first")
        return {
            **{f"scale.{name}": value for name, value in self.scale.state().items()},
            "reference": self._reference,
            "neighbours": np.array([self.neighbours], dtype=np.int64),
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[np.generic]]) -> NeighbourDensity:
        """Build a fitted density from its state."""
        density = cls(int(np.asarray(state["neighbours"])[0]))
        density.scale = LogScale.restore({n.removeprefix("scale."): v for n, v in state.items() if "scale." in n})
        density._remember(np.asarray(state["reference"], dtype=np.float64))
        return density

    def _remember(self, reference: Floats) -> None:
        self._reference = reference
        self._index = NearestNeighbors(n_neighbors=self.neighbours, algorithm="brute").fit(reference)
