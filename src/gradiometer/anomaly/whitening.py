"""The mean direction of normal gradients, on a scale on which they vary alike in every direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.anomaly.constraint import SMALLEST, constrained
from gradiometer.detectors.checks import place_of
from gradiometer.detectors.inputs import Inputs, batches, move
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer, Reconstruction

SHRINKAGE = 0.05
"""Share of the covariance that is taken from one that is the same in every direction."""

LARGEST = 4096
"""Entries of a parameter whose covariance is learnt at most: it has the square of that many numbers."""

_WHITE = "white."


@dataclass(frozen=True, eq=False)
class WhiteDirection:
    """A cosine with a mean direction in which directions count less the more normal vectors vary along them.

    With m the mean of the unit vectors of normal images, S their covariance and S' = (1 - a) S + a tr(S) / D, it is

        m' S'^-1 v / sqrt(m' S'^-1 m  v' S'^-1 v),

    the cosine after whitening: the adaptive coherence estimator of radar (Scharf and McWhorter, "Adaptive Matched
    Subspace Detectors and Adaptive Coherence Estimators", Asilomar 1996), with its sign kept and m for the target.

    Attributes:
        matrix: (D, D) lower triangular float32, the inverse of the Cholesky factor of S'.
        mean: (D,) float32, the whitened mean as a unit vector; zeros when the mean has no length.

    Example:
        >>> varied = torch.tensor([[1.0, 0.5, 0.0], [1.0, -0.5, 0.0]])
        >>> white = WhiteDirection.of(varied)
        >>> white.cosines(torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.5]])).round(decimals=2).tolist()
        [1.0, 0.89]
    """

    matrix: Tensor
    mean: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Self:
        """Learn from the vectors (N, D) of normal images.

        Raises:
            InputError: No vector has a length.
        """
        units = _units(rows).double()
        if not bool(units.any()):
            raise InputError("no known image has a gradient; are they all reconstructed without an error?")
        mean = units.mean(0)
        centred = units - mean
        covariance = centred.mT @ centred / len(units)
        size = len(mean)
        even = covariance.diagonal().mean()
        # Normal vectors that are all alike leave nothing to whiten.
        if even <= SMALLEST:
            covariance, even = torch.zeros_like(covariance), torch.ones_like(even)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * even * torch.eye(size).to(covariance)
        factor = torch.linalg.cholesky(shrunk)
        matrix = torch.linalg.solve_triangular(factor, torch.eye(size).to(factor), upper=False)
        white = matrix @ mean
        return cls(matrix.float(), torch.nn.functional.normalize(white, dim=0).float())

    def cosines(self, vectors: Tensor) -> Tensor:
        """Whitened cosine of each vector.

        Args:
            vectors: (B, D).

        Returns:
            (B,) float64 in [-1, 1]; 0 for a vector without length.
        """
        white = _units(vectors).float() @ self.matrix.mT
        lengths = white.double().norm(dim=1)
        found = (white.double() @ self.mean.double()) / lengths.clamp_min(SMALLEST)
        return torch.where(lengths > SMALLEST, found, 0.0).clamp(-1, 1)


class Whitened:
    """The whitened cosine of the gradient of the smallest constrained parameter, whose covariance is easiest to learn.

    Args:
        model: Auto-encoder in eval mode.
        layers: Globs of the constrained parameters.
        memory: Working memory that the gradients may take.

    Attributes:
        name: The parameter.

    Raises:
        InputError: Even the smallest parameter is too large.
    """

    def __init__(self, model: nn.Module, layers: str | Sequence[str], memory: str | int | None = None) -> None:
        sizes = {name: parameter.numel() for name, parameter in constrained(model, layers).items()}
        # Of equally small ones the last is nearest to the images.
        self.name = min(reversed(sizes), key=lambda name: sizes[name])
        if sizes[self.name] > LARGEST:
            raise InputError(
                f"the smallest constrained parameter, {self.name!r}, has {sizes[self.name]:,} entries, and whitened "
                f"takes {LARGEST:,} at most; name a smaller one in layers, or choose another score"
            )
        self._model = model
        self._meter = Gradiometer(model, Reconstruction(), self.name, memory=memory)
        self._white: WhiteDirection | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of what is measured."""
        return (f"whitened cosine of {self.name}",)

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn the mean direction and the scale.

        Args:
            known: Normal images, in any form that `GradCon.fit` takes.
            batch_size: Images that go through the model at once.
        """
        device, dtype = place_of(self._model)
        parts = [self._read(move(one.inputs, device, dtype)) for one in batches(known, batch_size, "known images")]
        self._white = WhiteDirection.of(torch.cat(parts))
        return self

    def measure(self, inputs: Tensor) -> Tensor:
        """Whitened cosines (B, 1) of images."""
        assert self._white is not None
        return self._white.cosines(self._read(inputs)).unsqueeze(1)

    def score(self, measured: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Outlier scores (B,) from what was measured (B, 1)."""
        return -measured[:, 0]

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What was learnt, as arrays."""
        assert self._white is not None
        return {f"{_WHITE}matrix": self._white.matrix.cpu().numpy(), f"{_WHITE}mean": self._white.mean.cpu().numpy()}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> Self:
        """Take what was learnt."""
        device, _ = place_of(self._model)
        self._white = WhiteDirection(
            *(torch.tensor(state[f"{_WHITE}{name}"]).to(device) for name in ("matrix", "mean"))
        )
        return self

    def _read(self, inputs: Inputs) -> Tensor:
        gradients: Tensor = self._meter.gradients(inputs)[self.name].flatten(1)
        return gradients


def _units(rows: Tensor) -> Tensor:
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.where(lengths > SMALLEST, rows / lengths.clamp_min(SMALLEST), 0.0)
