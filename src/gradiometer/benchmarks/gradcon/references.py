"""What any method has to beat: reconstruction by principal components, and nearest neighbours of the pixels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from gradiometer.benchmarks.metrics import Floats
from gradiometer.errors import InputError

Pixels = npt.NDArray[np.floating]


class PixelMethod(Protocol):
    """Learns from normal images and says of each pixel of others how far it is from them."""

    name: str

    def fit(self, known: Pixels) -> PixelMethod:
        """Learn from normal images (N, K, H, W) in [0, 1]."""
        ...

    def maps(self, images: Pixels) -> Floats:
        """Maps (B, H, W), higher = more abnormal; their mean is the score of the image."""
        ...


class Components:
    """Squared error of the reconstruction from the first principal components of normal images.

    Args:
        count: Most components; never more than the images give.
    """

    name = "PCA reconstruction"

    def __init__(self, count: int = 50) -> None:
        self.count = count
        self._pca: PCA | None = None

    def fit(self, known: Pixels) -> Components:
        """Learn the components."""
        flat = known.reshape(len(known), -1)
        self._pca = PCA(min(self.count, *flat.shape), svd_solver="randomized", random_state=0).fit(flat)
        return self

    def maps(self, images: Pixels) -> Floats:
        """Squared errors, mean over channels."""
        if self._pca is None:
            raise InputError("fit the components first")
        rebuilt = self._pca.inverse_transform(self._pca.transform(images.reshape(len(images), -1)))
        squares: Floats = np.square(images - rebuilt.reshape(images.shape)).mean(1).astype(np.float64)
        return squares


class Neighbours:
    """Squared difference from the mean of the nearest normal images, by Euclidean distance of pixels.

    Args:
        count: How many of them.
    """

    name = "nearest neighbours of pixels"

    def __init__(self, count: int = 5) -> None:
        self.count = count
        self._known: Pixels | None = None
        self._index: NearestNeighbors | None = None

    def fit(self, known: Pixels) -> Neighbours:
        """Remember the images."""
        self._known = known
        self._index = NearestNeighbors(n_neighbors=min(self.count, len(known)), algorithm="brute")
        self._index.fit(known.reshape(len(known), -1))
        return self

    def maps(self, images: Pixels) -> Floats:
        """Squared differences, mean over channels."""
        if self._known is None or self._index is None:
            raise InputError("fit the neighbours first")
        nearest = self._index.kneighbors(images.reshape(len(images), -1), return_distance=False)
        means = np.stack([self._known[rows].mean(0) for rows in nearest])
        squares: Floats = np.square(images - means).mean(1).astype(np.float64)
        return squares
