"""Local intrinsic dimensionality of pooled layers, combined with the help of challenges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from scipy.spatial.distance import cdist
from torch import nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.combination import Combination
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.layers import asked
from gradiometer.detectors.pooled import Pooled
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@register
class LID(Detector):
    """Log-odds of a challenge, from the local intrinsic dimensionality among known images in several layers.

    Ma et al., "Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality", ICLR 2018, equation 4, with
    this sign: LID = -(mean over i of log(r_i / r_k))^-1 for the distances r_1 <= ... <= r_k to the k nearest known
    images of a small batch. As in the code of K. Lee et al. (NeurIPS 2018) layers are read as means over positions and
    combined by a logistic regression (see `Combination`). The published code takes the clean images of each batch that
    is scored as its reference; here it is one batch of known images, drawn at fit and kept, so that a score does not
    depend on its neighbours in the batch. Images of the reference train nothing else.

    Seen: known images and challenges, hence the `matched` protocol. Cost: one forward pass. Range: any real number.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C), with layers that are modules.
        neighbours: k; the published grid is `hyperparameter_space`.
        reference: Known images of the reference batch.
        layers: How many layers, evenly spread (see `Guard`) and the last always among them, or their names.
        seed: Of the draw of the reference.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    learns_from_challenges = True
    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality",
            venue="ICLR",
            year=2018,
            url="https://arxiv.org/abs/1801.02613",
            code="https://github.com/xingjunm/lid_adversarial_subspace_detection",
        ),
        tasks={Task.CLASSIFICATION},
    )
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"neighbours": [10, 20, 30, 40, 50, 60, 70, 80, 90]}

    def __init__(
        self,
        model: nn.Module,
        neighbours: int = 20,
        reference: int = 100,
        layers: int | Sequence[str] = 5,
        seed: int = 0,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self.reference = given.whole("reference", reference, least=2)
        self.neighbours = given.whole("neighbours", neighbours, least=2, most=self.reference)
        self.layers = asked(layers)
        self.seed = given.whole("seed", seed, least=0)
        self.output = output
        self._pooled = Pooled(model, self.layers, output)
        self._batch: tuple[Floats, ...] = ()
        self._combination: Combination | None = None

    def _measure(self, inputs: Inputs) -> Measurement:
        with torch.no_grad():
            logits, pooled = self._pooled(inputs)
        values = [part.cpu().double().numpy() for part in pooled]
        names = tuple(f"inputs of {name}" for name in self._pooled.names)
        return Measurement(logits, np.concatenate(values, axis=1), names, tuple(part.shape[1] for part in values))

    def _learn(self, known: Samples, challenges: Samples | None, /) -> None:
        if challenges is None:
            raise InputError("LID learns from challenges too; call fit(known, challenges=...)")
        if len(known) <= self.reference:
            raise InputError(f"{len(known)} known image(s) are too few for a reference of {self.reference}; give more")
        order = np.random.default_rng(self.seed).permutation(len(known))
        drawn, others = order[: self.reference], np.sort(order[self.reference :])
        self._batch = tuple(np.split(known.statistics[drawn], np.cumsum(known.widths)[:-1], axis=1))
        self._combination = Combination.fit(
            self._dimensions(known.statistics[others]), self._dimensions(challenges.statistics), self.seed
        )

    def _dimensions(self, statistics: Floats) -> Floats:
        """LID (N, L) in every layer."""
        widths = [part.shape[1] for part in self._batch]
        layers = np.split(statistics, np.cumsum(widths)[:-1], axis=1)
        return np.stack(
            [lid(cdist(v, known), self.neighbours) for v, known in zip(layers, self._batch, strict=True)], axis=1
        )

    def _score(self, statistics: Floats) -> Floats:
        if self._combination is None:
            raise NotFittedError("the layers are not combined yet; call fit(known, challenges=...) first")
        return self._combination.score(self._dimensions(statistics))

    def _profile(self, statistics: Floats) -> Floats:
        return self._dimensions(statistics)

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _state(self) -> dict[str, Array]:
        if self._combination is None:
            raise NotFittedError("there is nothing to save yet; call fit(known, challenges=...) first")
        combined = {f"combination.{name}": array for name, array in self._combination.state().items()}
        return combined | {f"reference.{place}": values for place, values in enumerate(self._batch)}

    def _restore(self, state: Mapping[str, Array]) -> None:
        count = sum(name.startswith("reference.") for name in state)
        self._batch = tuple(np.asarray(state[f"reference.{place}"], dtype=np.float64) for place in range(count))
        start = "combination."
        self._combination = Combination.restore(
            {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}
        )

    def _parameters(self) -> dict[str, Any]:
        names = ("neighbours", "reference", "layers", "seed", "output")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}


def lid(distances: Floats, neighbours: int) -> Floats:
    """Maximum likelihood estimate of the local intrinsic dimensionality.

    Args:
        distances: (N, R) to the images of a reference.
        neighbours: k.

    Returns:
        (N,), 0 or larger; 0 for an image that is in the reference or whose k neighbours are all as far.

    Example:
        >>> lid(np.array([[1.0, 2.0, 4.0, 9.0]]), 3).round(4).tolist()  # 3 / (log 4 + log 2 + log 1)
        [1.4427]
    """
    nearest = np.sort(distances, axis=1)[:, :neighbours]
    farthest = nearest[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.log(nearest / farthest).mean(1)
    usable = np.isfinite(mean) & (mean < 0)
    estimates: Floats = np.where(usable, -1 / np.where(usable, mean, -1.0), 0.0)
    return estimates
