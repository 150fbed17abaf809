"""Density of the features: one Gaussian for each class, each with a covariance of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import Tensor, nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.features import OnFeatures
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Samples
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

_ARRAYS = ("_mu", "_precision", "_log_det", "_log_weights")


@register
class DDU(OnFeatures, Detector):
    """Minus the log density of the penultimate features, -log sum_c pi_c N(h; mu_c, Sigma_c).

    Mukhoti et al., "Deep Deterministic Uncertainty: A New Simple Baseline", CVPR 2023, for whom it is the epistemic
    part, with this sign; the aleatoric part is the entropy of the softmax. They train the network with spectral
    normalisation, so that distances in the input survive in the features; on another network it is a density of the
    features and no more. `pytorch_ood.detector.GMM` computes it, in float64.

    Seen: known images with labels. Cost: one forward pass. Range: any real number.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        jitter: What is added to every variance, so that covariances can be inverted.
        encoder: Function from inputs to features (B, D); the input of the last linear layer when None.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Deep Deterministic Uncertainty: A New Simple Baseline",
            venue="CVPR",
            year=2023,
            url="https://arxiv.org/abs/2102.11582",
        ),
        tasks={Task.CLASSIFICATION},
    )
    hyperparameter_space: ClassVar[dict[str, list[float]]] = {"jitter": [1e-8, 1e-6, 1e-4, 1e-2]}

    def __init__(
        self,
        model: nn.Module,
        jitter: float = 1e-6,
        encoder: Callable[[Inputs], Tensor] | None = None,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self._read_features_with(model, encoder, output)
        self.jitter = given.number("jitter", jitter, "a positive number, such as 1e-6", above=0)
        self._peer: pytorch_ood.detector.GMM | None = None

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        labels = known.labelled()
        peer = pytorch_ood.detector.GMM(encoder=None, reg=self.jitter)
        try:
            self._peer = peer.fit_features(torch.from_numpy(known.statistics), torch.from_numpy(labels))
        except ValueError as error:
            raise InputError(f"{error}; jitter is {self.jitter}, give a larger one") from error

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = self._fitted().predict_features(torch.from_numpy(statistics)).numpy()
        return scores

    def _state(self) -> dict[str, Array]:
        return {name.strip("_"): getattr(self._fitted(), name).numpy() for name in _ARRAYS}

    def _restore(self, state: Mapping[str, Array]) -> None:
        peer = pytorch_ood.detector.GMM(encoder=None, reg=self.jitter)
        for name in _ARRAYS:
            setattr(peer, name, torch.from_numpy(np.array(state[name.strip("_")], dtype=np.float64)))
        self._peer = peer

    def _fitted(self) -> pytorch_ood.detector.GMM:
        if self._peer is None:
            raise NotFittedError("the class densities are not known yet; call fit((images, labels)) first")
        return self._peer

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"jitter": encode(self.jitter)}
