"""The statistics of GradCon: what is read off the auto-encoder for each image, and in which columns it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.anomaly.directions import Subspace
from gradiometer.anomaly.losses import latent_loss, reconstruction_loss
from gradiometer.anomaly.networks import VariationalAutoEncoder
from gradiometer.anomaly.whitening import ALL, Whitened
from gradiometer.detectors import Measurement
from gradiometer.gradients import Gradiometer
from gradiometer.gradients.factors import exact, wide

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Learner = Subspace | Whitened
LEARNERS = ("subspace", "whitened", "aligned")
"""Scores that learn from the gradients of normal images in a pass of their own."""


@dataclass(frozen=True)
class Columns:
    """Where in the statistics (B, F) of images each of them is.

    Losses come first, then what a learner measures, then the cosine and the squared length of each gradient.

    Attributes:
        losses: Columns of losses: two of a variational auto-encoder, one of any other.
        parameters: Constrained parameters L.
    """

    losses: int
    parameters: int

    @classmethod
    def of(cls, model: nn.Module, parameters: int) -> Self:
        """The columns of an auto-encoder with so many constrained parameters."""
        return cls(2 if isinstance(model, VariationalAutoEncoder) else 1, parameters)

    def learnt(self, statistics: Floats) -> Floats:
        """What a learner measured (B, M)."""
        return statistics[:, self.losses : -2 * self.parameters]

    def cosines(self, statistics: Floats) -> Floats:
        """Cosines (B, L) of the gradients with the reference."""
        return statistics[:, -2 * self.parameters : -self.parameters]

    def shape(self, statistics: Floats) -> Floats:
        """Non-negative values for a density: the losses, the angle and the squared length of each gradient."""
        squares = statistics[:, -self.parameters :]
        return np.concatenate(
            [statistics[:, : self.losses], np.arccos(self.cosines(statistics)), squares],
            axis=1,
        )

    def logs(self, statistics: Floats, learner: Learner | None) -> Floats:
        """Logs of what cannot be negative, and cosines as they are."""
        logs: Floats = np.log(np.maximum(statistics, np.finfo(np.float64).tiny))
        signed = slice(self.losses if isinstance(learner, Whitened) else -2 * self.parameters, -self.parameters)
        logs[:, signed] = statistics[:, signed]
        return logs


def read(meter: Gradiometer, reference: Mapping[str, Tensor], inputs: Tensor, learner: Learner | None) -> Measurement:
    """All statistics of some images.

    Args:
        meter: The instrument on the auto-encoder and its constrained parameters.
        reference: Unit vector of each parameter, by name.
        inputs: Images (B, K, H, W) in [0, 1].
        learner: What measures something more, when there is one.
    """
    if inputs.ndim == 4:  # as the network is run and returns them: the difference of images in two formats is slow
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    products, squares = meter.alignments(inputs, reference)
    columns = [exact(reconstruction_loss(wide(inputs), wide(products.outputs))).unsqueeze(1)]
    names = ["reconstruction loss"]
    if isinstance(meter.model, VariationalAutoEncoder):
        with torch.no_grad():
            # The difference of nearly equal numbers: a collapsed code would come out a hair below zero in float32.
            mean, log_variance = (exact(part) for part in meter.model.distribution(inputs))
            columns.append(latent_loss(mean, log_variance).clamp_min(0).unsqueeze(1))
        names.append("latent loss")
    if learner is not None:
        columns.append(learner.measure(inputs))
        names += learner.columns
    lengths = squares.values.sqrt()
    # A gradient without length has no direction: its cosine is 0.
    cosines = torch.where(lengths > 0, products.values / lengths.clamp_min(torch.finfo(lengths.dtype).tiny), 0.0)
    columns += [cosines.clamp(-1, 1), squares.values]
    names += [f"cosine of {name}" for name in products.parameters]
    names += [f"gradient of {name}" for name in squares.parameters]
    statistics = torch.cat([column.cpu() for column in columns], 1).numpy()
    return Measurement(None, statistics.astype(np.float64, copy=False), tuple(names))


def make_learner(
    score: str, model: nn.Module, layers: str | Sequence[str], directions: int, memory: str | int | None
) -> Learner:
    """What learns for a score of `LEARNERS`.

    Args:
        score: Name of the score.
        model: Auto-encoder in eval mode.
        layers: Globs of the constrained parameters.
        directions: Dimensions of `subspace`.
        memory: Working memory that the gradients may take.
    """
    if score == "subspace":
        return Subspace(model, layers, directions, memory)
    return Whitened(model, layers, ALL if score == "aligned" else ALL[:1], memory)


def divided(count: int, groups: npt.NDArray[np.int64] | None) -> tuple[Rows, Rows]:
    """Rows of three quarters of the base images, and of the others; always the same.

    Args:
        count: Images N.
        groups: Base image of each (N,), or None where each is its own.
    """
    groups = np.arange(count) if groups is None else groups
    bases = np.unique(groups)
    chosen = np.random.default_rng(0).permutation(bases)[: max(1, len(bases) // 4)]
    kept = np.isin(groups, chosen)
    return np.flatnonzero(~kept), np.flatnonzero(kept)
