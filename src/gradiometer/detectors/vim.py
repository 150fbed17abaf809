"""Virtual-logit matching: what the features hold beside what the last layer uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
import torch
from pytorch_ood.api import DetectorInfo
from torch import nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.lastlayer import LastLayer
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@register
class ViM(Detector):
    """Norm of the features outside of their principal subspace, scaled like a logit, plus the energy of the logits.

    H. Wang et al., "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR 2022, equations 4 to 7, who use it with
    this sign. `pytorch_ood.detector.ViM` computes it, in float32.

    Seen: known images only. Cost: one forward pass. Range: any real number.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        dimensions: Of the principal subspace; the paper's rule when None: 1000 for 2048 features or more, 512 for 768
            or more, else half of them.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = pytorch_ood.detector.ViM.info
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"dimensions": [16, 32, 64, 128, 256, 512]}

    def __init__(
        self, model: nn.Module, dimensions: int | None = None, output: Output = None, *, batch_size: int = 128
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        # None is the rule of the paper.
        self.dimensions = None if dimensions is None else given.whole("dimensions", dimensions)
        self.output = output
        self._last = LastLayer(model, output)
        self._peer: pytorch_ood.detector.ViM | None = None

    def _measure(self, inputs: Inputs) -> Measurement:
        logits, features, layer = self._last(inputs)
        return Measurement(logits, features.cpu().double().numpy(), (f"features into {layer}",))

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        count = known.statistics.shape[1]
        dimensions = self.dimensions or (1000 if count >= 2048 else 512 if count >= 768 else max(1, count // 2))
        if dimensions >= count:
            raise InputError(f"dimensions is {dimensions} of {count} features, which leaves no residual; give fewer")
        weight, bias = self._last.weight_and_bias()
        peer = pytorch_ood.detector.ViM(encoder=None, d=dimensions, w=weight, b=bias)
        self._peer = peer.fit_features(torch.from_numpy(known.statistics), torch.zeros(len(known)))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = self._fitted().predict_features(torch.from_numpy(statistics)).double().numpy()
        return scores

    def _state(self) -> dict[str, Array]:
        peer = self._fitted()
        return {
            "weight": peer.w.numpy(),
            "bias": peer.b.numpy(),
            "residual": peer.principal_subspace.numpy(),
            "alpha": np.array([peer.alpha]),
        }

    def _restore(self, state: Mapping[str, Array]) -> None:
        weight, bias, residual = (
            torch.from_numpy(np.array(state[name], dtype=np.float32)) for name in ("weight", "bias", "residual")
        )
        peer = pytorch_ood.detector.ViM(encoder=None, d=len(residual) - residual.shape[1], w=weight, b=bias)
        peer.principal_subspace, peer.alpha = residual, float(state["alpha"][0])
        self._peer = peer

    def _fitted(self) -> pytorch_ood.detector.ViM:
        if self._peer is None:
            raise NotFittedError("the principal subspace is not known yet; call fit(known) first")
        return self._peer

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"dimensions": encode(self.dimensions), "output": encode(self.output)}
