"""Energy of the logits after the largest features were cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
import torch
from pytorch_ood.api import DetectorInfo
from torch import Tensor, nn
from torch.nn import functional as F

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.lastlayer import LastLayer
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import NotFittedError
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@register
class ReAct(Detector):
    """Energy of the logits that the last layer gives when no feature is above a quantile of all known features.

    Sun, Guo and Li, "ReAct: Out-of-distribution Detection With Rectified Activations", NeurIPS 2021, who use minus the
    energy as confidence. `pytorch_ood.detector.ReAct` computes it, here in float64.

    Seen: known images only. Cost: one forward pass. Range: any real number.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        percentile: Share of the values of all features of all known images that stays as it is, in (0, 1).
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = pytorch_ood.detector.ReAct.info
    hyperparameter_space: ClassVar[dict[str, list[float]]] = {"percentile": [0.85, 0.9, 0.95, 0.99]}

    def __init__(
        self, model: nn.Module, percentile: float = 0.9, output: Output = None, *, batch_size: int = 128
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        wanted = "a share between 0 and 1, such as 0.9"
        self.percentile = given.number("percentile", percentile, wanted, above=0, below=1)
        self.output = output
        self._last = LastLayer(model, output)
        self._peer: pytorch_ood.detector.ReAct | None = None

    def _measure(self, inputs: Inputs) -> Measurement:
        logits, features, layer = self._last(inputs)
        return Measurement(logits, features.cpu().double().numpy(), (f"features into {layer}",))

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        peer = pytorch_ood.detector.ReAct(backbone=None, head=self._head, percentile=self.percentile)
        self._peer = peer.fit_feature_maps(torch.from_numpy(known.statistics), torch.zeros(len(known)))

    def _head(self, features: Tensor) -> Tensor:
        return F.linear(features, *self._last.weight_and_bias())

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = self._fitted().predict_feature_maps(torch.from_numpy(statistics)).numpy()
        return scores

    def _state(self) -> dict[str, Array]:
        return {"threshold": np.array([self._fitted().threshold])}

    def _restore(self, state: Mapping[str, Array]) -> None:
        self._peer = pytorch_ood.detector.ReAct(None, self._head, threshold=float(state["threshold"][0]))

    def _fitted(self) -> pytorch_ood.detector.ReAct:
        if self._peer is None:
            raise NotFittedError("the threshold is not known yet; call fit(known) first")
        return self._peer

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"percentile": encode(self.percentile), "output": encode(self.output)}
