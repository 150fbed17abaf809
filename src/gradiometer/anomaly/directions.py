"""The directions in which the gradients of normal images point, where one mean direction says too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.anomaly.constraint import DECODER, SMALLEST, constrained
from gradiometer.detectors.checks import place_of
from gradiometer.detectors.inputs import Batch, batches, move
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer, Reconstruction
from gradiometer.gradients.factors import exact

MOST = 2000
"""Normal images that directions are learnt from at most: the first of a fixed random order."""

_PORTION = 4096
"""Columns that are multiplied at once."""

_DEPENDENT = 1e-10
"""Share of the largest eigenvalue below which an eigenvalue is rounding: its direction is none."""

_STORED = "basis."


def main_directions(
    model: nn.Module, known: Any, layers: str | Sequence[str], count: int, *, batch_size: int = 64
) -> dict[str, Tensor]:
    """An orthonormal basis of the space that holds most of the gradients of normal images.

    Each gradient has length 1, so that an image that is hard to reconstruct counts as much as any other. The basis is
    that of principal components without a centre: the first direction is close to the mean gradient.

    Args:
        model: Auto-encoder in eval mode.
        known: Normal images, in any form that `GradCon.fit` takes.
        layers: Globs of the parameters.
        count: Directions of each parameter, at least one; fewer when there are fewer images.
        batch_size: Images that go through the model at once.

    Returns:
        (count, parameters) float32 for each parameter, by name; rows are orthonormal.

    Raises:
        InputError: No image has a gradient.
    """
    meter = Gradiometer(model, Reconstruction(), layers)
    device, dtype = place_of(model)
    found: dict[str, list[Tensor]] = {}
    for batch in _some(list(batches(known, batch_size, "known images"))):
        for name, gradients in meter.gradients(move(batch.inputs, device, dtype)).items():
            flat = gradients.flatten(1)
            lengths = flat.norm(dim=1, keepdim=True)
            found.setdefault(name, []).append(torch.where(lengths > SMALLEST, flat / lengths.clamp_min(SMALLEST), 0))
    return {name: _basis(name, torch.cat(parts), count) for name, parts in found.items()}


def outside(gradients: Mapping[str, Tensor], basis: Mapping[str, Tensor]) -> Tensor:
    """Share of the squared length of each gradient that lies outside of the main directions.

    Args:
        gradients: (B, *shape) of each parameter, by name.
        basis: As `main_directions` returns it.

    Returns:
        (B, L) float64 in [0, 1], in the order of the basis; 1 for a gradient without length, which points nowhere.

    Example:
        >>> basis = {"weight": torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])}
        >>> outside({"weight": torch.tensor([[3.0, 4.0, 0.0], [3.0, 0.0, 4.0]])}, basis).round(decimals=2).tolist()
        [[0.0], [0.64]]
    """
    columns = []
    for name, directions in basis.items():
        flat = gradients[name].flatten(1)
        length = exact(flat).square().sum(1)
        inside = exact(flat @ directions.to(flat).mT).square().sum(1)
        share = inside / length.clamp_min(torch.finfo(torch.float64).tiny)
        columns.append(torch.where(length > SMALLEST**2, 1 - share, 1.0).clamp(0, 1))
    return torch.stack(columns, dim=1)


class Subspace:
    """The share of each gradient that lies outside of the main directions of normal images.

    Args:
        model: Auto-encoder in eval mode.
        layers: Globs of the parameters.
        count: Directions of each parameter.
        memory: Working memory that the gradients may take.
    """

    def __init__(
        self, model: nn.Module, layers: str | Sequence[str], count: int, memory: str | int | None = None
    ) -> None:
        self._model, self._layers, self._count = model, layers, count
        self._meter = Gradiometer(model, Reconstruction(), layers, memory=memory)
        self._basis: dict[str, Tensor] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is measured."""
        return tuple(f"outside of {name}" for name in constrained(self._model, self._layers))

    def fit(self, known: Any, batch_size: int) -> Self:
        """Learn the directions; see `main_directions`."""
        self._basis = main_directions(self._model, known, self._layers, self._count, batch_size=batch_size)
        return self

    def measure(self, inputs: Tensor) -> Tensor:
        """Shares (B, L) of images (B, K, H, W)."""
        return outside(self._meter.gradients(inputs), self._basis)

    def score(self, measured: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Outlier scores (B,) from what was measured (B, L)."""
        scores: npt.NDArray[np.float64] = measured.mean(1)
        return scores

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What was learnt, as arrays by name."""
        return {f"{_STORED}{name}": basis.cpu().numpy() for name, basis in self._basis.items()}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> Self:
        """Take what was learnt."""
        device, _ = place_of(self._model)
        names = constrained(self._model, self._layers)
        self._basis = {name: torch.tensor(state[f"{_STORED}{name}"]).to(device) for name in names}
        return self


def mean_gradient(
    model: nn.Module, known: Any, layers: str | Sequence[str] = DECODER, *, batch_size: int = 64
) -> dict[str, Tensor]:
    """The mean gradient of the reconstruction loss over normal images: a reference without constrained training.

    Args:
        model: Auto-encoder in eval mode.
        known: Normal images, in any form that `fit` takes.
        layers: Globs of the parameters.
        batch_size: Images that go through the model at once.

    Returns:
        One tensor for each parameter, by name.
    """
    meter = Gradiometer(model, Reconstruction(), layers)
    device, dtype = place_of(model)
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches(known, batch_size, "known images"):
        count += len(batch)
        for name, gradients in meter.gradients(move(batch.inputs, device, dtype)).items():
            sums[name] = sums.get(name, torch.zeros_like(gradients[0])) + gradients.sum(0)
    return {name: total / count for name, total in sums.items()}


def _some(parts: list[Batch]) -> list[Batch]:
    """Batches with at most so many images in all."""
    total = sum(len(part) for part in parts)
    if total <= MOST:
        return parts
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[torch.randperm(total, generator=torch.Generator().manual_seed(0))[:MOST]] = True
    masks = chosen.split([len(part) for part in parts])
    return [part.select(mask.numpy()) for part, mask in zip(parts, masks, strict=True) if bool(mask.any())]


def _basis(name: str, rows: Tensor, count: int) -> Tensor:
    """The leading right singular vectors (count, D) of unit rows (N, D), from the small matrix of their products."""
    # In float64 and portion by portion: small eigenvalues are differences of large products.
    products = sum(exact(part) @ exact(part).mT for part in rows.split(_PORTION, dim=1))
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    if values[0] <= 0:
        raise InputError(f"no known image has a gradient of {name!r}; are they all reconstructed without an error?")
    kept = values > _DEPENDENT * values[0]
    weights = vectors[:, kept] / values[kept].sqrt()
    # The sign of a singular vector is arbitrary; positive sums make it the same everywhere.
    weights = torch.where(weights.sum(0) < 0, -1.0, 1.0) * weights
    basis: Tensor = weights.mT.to(rows) @ rows
    return basis
