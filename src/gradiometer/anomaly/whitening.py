"""The mean direction of normal gradients, images and errors, on a scale on which they vary alike in all directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.anomaly.constraint import SMALLEST, constrained
from gradiometer.detectors.checks import place_of
from gradiometer.detectors.inputs import Inputs, batches, move
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer, Reconstruction
from gradiometer.gradients.factors import exact

SHRINKAGE = 0.05
"""Share of the covariance that is taken from one that is the same in every direction."""

LARGEST = 4096
"""Entries of a parameter whose covariance is learnt at most: it has the square of that many numbers."""

WIDEST = 14
"""Height and width at which images and errors are looked at, at most, in pixels."""

GREY = 0.5
"""What images point away from."""

Member = Literal["gradient", "image", "error"]
"""What a whitened cosine is of."""

ALL: tuple[Member, ...] = get_args(Member)
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
        units = exact(_units(rows))
        if not bool(units.any()):
            raise InputError(
                "no known image has a gradient or an error, to whiten; are they all reconstructed perfectly?"
            )
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
        # In the memory format that it has after loading: another one may round otherwise.
        return cls(matrix.float().contiguous(), torch.nn.functional.normalize(white, dim=0).float())

    def cosines(self, vectors: Tensor) -> Tensor:
        """Whitened cosine of each vector.

        Args:
            vectors: (B, D).

        Returns:
            (B,) float64 in [-1, 1]; 0 for a vector without length.
        """
        units = _units(vectors).float()
        white = units @ self.matrix.mT.to(units.device)
        white = exact(white)
        lengths = white.norm(dim=1)
        found = (white @ self.mean.to(white)) / lengths.clamp_min(SMALLEST)
        return torch.where(lengths > SMALLEST, found, 0.0).clamp(-1, 1)


class Whitened:
    """Whitened cosines of gradients, images and reconstruction errors.

    The gradient is that of the smallest constrained parameter, whose covariance is easiest to learn. Images less a grey
    one and errors are taken at a height and width of 14 at most, so that they have about as many entries.

    Args:
        model: Auto-encoder in eval mode.
        layers: Globs of the constrained parameters.
        members: What the cosines are of.
        memory: Working memory that the gradients may take.

    Attributes:
        name: The parameter.

    Raises:
        InputError: Even the smallest parameter is too large.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str],
        members: Sequence[Member] = ("gradient",),
        memory: str | int | None = None,
    ) -> None:
        sizes = {name: parameter.numel() for name, parameter in constrained(model, layers).items()}
        # Of equally small ones the last is nearest to the images.
        self.name = min(reversed(sizes), key=lambda name: sizes[name])
        if sizes[self.name] > LARGEST and "gradient" in members:
            raise InputError(
                f"the smallest constrained parameter, {self.name!r}, has {sizes[self.name]:,} entries, and its "
                f"whitened cosine takes {LARGEST:,} at most; name a smaller one in layers, or choose another score"
            )
        self._model, self._members = model, tuple(members)
        self._meter = Gradiometer(model, Reconstruction(), self.name, memory=memory)
        self._white: dict[Member, WhiteDirection] = {}
        self._spreads = np.ones(len(self._members))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is measured."""
        names = {"gradient": self.name, "image": "the image", "error": "the reconstruction error"}
        return tuple(f"whitened cosine of {names[member]}" for member in self._members)

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn the mean directions and the scales.

        Args:
            known: Normal images, in any form that `GradCon.fit` takes.
            batch_size: Images that go through the model at once.
        """
        device, dtype = place_of(self._model)
        parts: dict[Member, list[Tensor]] = {member: [] for member in self._members}
        for batch in batches(known, batch_size, "known images"):
            for member, rows in self._read(move(batch.inputs, device, dtype)).items():
                parts[member].append(rows)
        vectors = {member: torch.cat(rows) for member, rows in parts.items()}
        self._white = {member: WhiteDirection.of(rows) for member, rows in vectors.items()}
        if len(vectors) > 1:
            spreads = [float(self._white[member].cosines(rows).std(correction=0)) for member, rows in vectors.items()]
            # A cosine that never varies among normal images counts for what it is.
            self._spreads = np.array([spread if spread > SMALLEST else 1.0 for spread in spreads])
        return self

    def measure(self, inputs: Inputs) -> Tensor:
        """Whitened cosines of images (B, K, H, W), one column for each member."""
        rows = self._read(inputs)
        return torch.stack([self._white[member].cosines(rows[member]) for member in self._members], dim=1)

    def score(self, measured: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Outlier scores (B,) from what was measured (B, M).

        Of one member it is minus its cosine; of several the sum, each in standard deviations of normal images.
        """
        scores: npt.NDArray[np.float64] = -(measured / self._spreads).sum(1)
        return scores

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What was learnt, as arrays by name."""
        found: dict[str, npt.NDArray[np.generic]] = {f"{_WHITE}spreads": self._spreads}
        for member, white in self._white.items():
            found[f"{_WHITE}{member}.matrix"] = white.matrix.cpu().numpy()
            found[f"{_WHITE}{member}.mean"] = white.mean.cpu().numpy()
        return found

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> Self:
        """Take what was learnt."""
        device, _ = place_of(self._model)
        self._spreads = state[f"{_WHITE}spreads"].astype(np.float64)
        self._white = {
            member: WhiteDirection(
                *(torch.tensor(state[f"{_WHITE}{member}.{name}"]).to(device) for name in ("matrix", "mean"))
            )
            for member in self._members
        }
        return self

    def _read(self, inputs: Inputs) -> dict[Member, Tensor]:
        """The vectors (B, D) of each member."""
        found: dict[Member, Tensor] = {}
        if "gradient" in self._members:
            found["gradient"] = self._meter.gradients(inputs)[self.name].flatten(1)
        assert isinstance(inputs, Tensor)
        if "image" in self._members:
            found["image"] = _smaller(inputs - GREY)
        if "error" in self._members:
            with torch.no_grad():
                found["error"] = _smaller(self._model(inputs) - inputs)
        return found


def _smaller(images: Tensor) -> Tensor:
    """Images (B, K, H, W) as vectors, at a lower height and width where they are high or wide."""
    sides = min(WIDEST, images.shape[-2]), min(WIDEST, images.shape[-1])
    smaller: Tensor = torch.nn.functional.adaptive_avg_pool2d(images, sides)
    return smaller.flatten(1)


def _units(rows: Tensor) -> Tensor:
    lengths = rows.norm(dim=1, keepdim=True)
    return torch.where(lengths > SMALLEST, rows / lengths.clamp_min(SMALLEST), 0.0)
