"""The usual detectors on logits and features: those of pytorch-ood, under the life cycle of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_ood.detector
import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward
from gradiometer.detectors.features import OnFeatures
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import NotFittedError
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


class _OnLogits(Detector):
    """A score that pytorch-ood computes from the logits alone, without a fit; here on float64 logits."""

    requires_fit = False
    _peer: ClassVar[pytorch_ood.detector.MaxSoftmax | pytorch_ood.detector.EnergyBased]

    def __init__(self, model: nn.Module, output: Output = None, *, batch_size: int = 128) -> None:
        super().__init__(model, batch_size=batch_size)
        self.output = output

    def _measure(self, inputs: Inputs) -> Measurement:
        return _logits(self.model, inputs, self.output)

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = self._peer.predict_logits(torch.from_numpy(statistics)).numpy()
        return scores

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"output": encode(self.output)}


@register
class MSP(_OnLogits):
    """Minus the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017), in [-1, -1 / C].

    Needs no fit; `pytorch_ood.detector.MaxSoftmax` computes it, here on float64 logits.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.

    Example:
        >>> scores = MSP(nn.Identity().eval()).predict(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
        >>> [round(score, 4) for score in scores.tolist()]
        [-0.5, -0.9999]
    """

    _peer = pytorch_ood.detector.MaxSoftmax(model=None)
    info: ClassVar[DetectorInfo] = _peer.info


@register
class Energy(_OnLogits):
    """Energy of the logits, -log sum exp z (Liu et al., NeurIPS 2020), any real number.

    Needs no fit; `pytorch_ood.detector.EnergyBased` computes it, here on float64 logits.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    _peer = pytorch_ood.detector.EnergyBased(model=None)
    info: ClassVar[DetectorInfo] = _peer.info


@register
class NormalizedMahalanobis(OnFeatures, Detector):
    """Mahalanobis distance of the penultimate features, divided by their L2 norm, to the nearest class mean.

    Half the squared distance, with the means of the true classes and one covariance for all (K. Lee et al., NeurIPS
    2018; `pytorch_ood.detector.Mahalanobis` computes it). Two things differ from that detector's own fit: the
    features have unit length, which is most of what it needs to tell strange images from weak features, and the
    covariance is the shrunk estimate of Ledoit and Wolf (2004) in float64. The fit of pytorch-ood inverts the plain
    scatter matrix in float32, where units that known images never activate are held up by a constant of 1e-6 alone.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        encoder: Function from inputs to features (B, D). None: the input of the last linear layer that the model
            calls, caught in the pass that also gives the logits.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
            venue="NeurIPS",
            year=2018,
            url="https://arxiv.org/abs/1807.03888",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        model: nn.Module,
        encoder: Callable[[Inputs], Tensor] | None = None,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self._read_features_with(model, encoder, output)
        self._peer = pytorch_ood.detector.Mahalanobis(encoder=None)

    def _measure(self, inputs: Inputs) -> Measurement:
        found = super()._measure(inputs)
        return replace(found, statistics=nn.functional.normalize(torch.from_numpy(found.statistics), dim=1).numpy())

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        labels = known.labelled()
        means = np.stack([known.statistics[labels == k].mean(0) for k in range(known.classes)])
        covariance = LedoitWolf(assume_centered=True).fit(known.statistics - means[labels])
        self._restore({"means": means, "covariance": covariance.covariance_, "precision": covariance.precision_})

    def _score(self, statistics: Floats) -> Floats:
        if self._peer.mu is None:
            raise NotFittedError("the class means are not known yet; call fit((images, labels)) first")
        scores: Floats = self._peer.predict_features(torch.from_numpy(statistics)).numpy()
        return scores

    def _state(self) -> dict[str, Array]:
        named = {"means": self._peer.mu, "covariance": self._peer.cov, "precision": self._peer.precision}
        return {name: tensor.numpy() for name, tensor in named.items()}

    def _restore(self, state: Mapping[str, Array]) -> None:
        means, covariance, precision = (
            torch.from_numpy(np.array(state[name], dtype=np.float64)) for name in ("means", "covariance", "precision")
        )
        self._peer.mu, self._peer.cov, self._peer.precision = means, covariance, precision


def _logits(model: nn.Module, inputs: Inputs, output: Output) -> Measurement:
    logits = forward(model, inputs, output)
    return Measurement(logits, logits.cpu().double().numpy(), ("logits",))
