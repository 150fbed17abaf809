"""Distance to the nearest neighbours in feature space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
import torch
from pytorch_ood.api import DetectorInfo
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


@register
class KNN(OnFeatures, Detector):
    """Euclidean distance of the penultimate features, divided by their L2 norm, to the k-th nearest known image.

    Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, who use minus the distance as
    confidence. `pytorch_ood.detector.KNN` computes it, here on float64 features.

    Seen: known images only. Cost: one forward pass, and the distances to all known images. Range: [0, 2].

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        neighbours: k; 50 is the paper's choice for CIFAR-10.
        encoder: Function from inputs to features (B, D); the input of the last linear layer when None.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = pytorch_ood.detector.KNN.info
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"neighbours": [1, 10, 50, 100, 200]}

    def __init__(
        self,
        model: nn.Module,
        neighbours: int = 50,
        encoder: Callable[[Inputs], Tensor] | None = None,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self._read_features_with(model, encoder, output)
        self.neighbours = given.whole("neighbours", neighbours)
        self._peer: pytorch_ood.detector.KNN | None = None
        self._reference: Floats = np.empty((0, 0))

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        if len(known) < self.neighbours:
            raise InputError(f"{len(known)} known image(s) are too few for {self.neighbours} neighbours; give more")
        self._restore({"reference": known.statistics})

    def _score(self, statistics: Floats) -> Floats:
        if self._peer is None:
            raise NotFittedError("the neighbours are not known yet; call fit(known) first")
        scores: Floats = self._peer.predict_features(torch.from_numpy(statistics)).numpy()
        return scores

    def _state(self) -> dict[str, Array]:
        return {"reference": self._reference}

    def _restore(self, state: Mapping[str, Array]) -> None:
        self._reference = np.asarray(state["reference"], dtype=np.float64)
        peer = pytorch_ood.detector.KNN(encoder=None, k=self.neighbours, algorithm="brute")
        peer.knn.set_params(n_jobs=None)  # workers of its own would outnumber the processors
        labels = torch.zeros(len(self._reference), dtype=torch.long)
        self._peer = peer.fit_features(torch.from_numpy(self._reference), labels)

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"neighbours": encode(self.neighbours)}
