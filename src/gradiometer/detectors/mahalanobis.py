"""Mahalanobis distances of pooled layers, with the input step and the feature ensemble of the published detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from gradiometer.detectors.combination import Combination
from gradiometer.detectors.gaussians import ClassGaussians
from gradiometer.detectors.inputs import Again, Inputs
from gradiometer.detectors.layers import asked
from gradiometer.detectors.perturbation import step
from gradiometer.detectors.pooled import Pooled
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@register
class Mahalanobis(Detector):
    """Half the squared Mahalanobis distance to the nearest class mean, in one layer or several.

    K. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
    NeurIPS 2018, who use minus the distance as confidence. The published variants are

    - V (vanilla): the penultimate features alone, `Mahalanobis(model)`;
    - P: after an input step towards the nearest mean, x' = x - epsilon sign(dM/dx), `epsilon=0.0014`;
    - FE (feature ensemble): `layers=5`, fitted with challenges, whose distances and those of the known images train a
      logistic regression (see `Combination`); the `matched` protocol then;
    - P + FE: both, with a step for each layer.

    Without challenges the distances of several layers are added up. A layer is read at its input, averaged over
    positions, where the paper reads the outputs of blocks. The covariance is the empirical one of the paper, without
    the directions in which known images do not vary; `NormalizedMahalanobis` and `Guard` shrink theirs.

    Seen: known images with labels; challenges for FE. Cost: one forward pass; with a step, two forward passes and one
    backward pass to the input for each layer. Fitting goes through the known images twice. Range: 0 or larger, any
    number with challenges.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C), with layers that are modules.
        layers: How many layers, evenly spread (see `Guard`) and the last always among them, or their names.
        epsilon: Size of the step, in units of the images. The published grid is `hyperparameter_space`.
        deviations: Standard deviation of each channel, where images are normalised before the model sees them.
        seed: Of the order in which the logistic regression sees the rows.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    learns_from_challenges = True
    info: ClassVar[DetectorInfo] = pytorch_ood.detector.Mahalanobis.info
    hyperparameter_space: ClassVar[dict[str, list[float]]] = {"epsilon": [0, 0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01]}

    def __init__(
        self,
        model: nn.Module,
        layers: int | Sequence[str] = 1,
        epsilon: float = 0.0,
        deviations: Sequence[float] | None = None,
        seed: int = 0,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        self.layers = asked(layers)
        self.epsilon = given.number("epsilon", epsilon, "a step of 0 or more, in units of the inputs", least=0)
        self.deviations = None if deviations is None else list(deviations)
        self.seed = given.whole("seed", seed, least=0)
        self.output = output
        self._pooled = Pooled(model, self.layers, output)
        self._gaussians: tuple[ClassGaussians, ...] = ()
        self._combination: Combination | None = None

    def _fit(self, known: Any, challenges: Any) -> None:
        """Learn first the means and covariances, then how the distances of known images lie."""
        again = Again(known, self.batch_size)
        # The first time the pooled layers themselves are read; as soon as there are Gaussians, distances are.
        self._gaussians, self._combination, self._known = (), None, None
        samples = self._collect(again, "known images", None)
        labels = samples.labelled()
        ends = np.cumsum(samples.widths)
        layers = np.split(samples.statistics, ends[:-1], axis=1)
        self._gaussians = tuple(ClassGaussians.fit(values, labels, shrink=False) for values in layers)
        super()._fit(again, challenges)

    def distances(self, x: Any) -> Tensor:
        """Half the squared distance to the nearest class mean in each layer, after the input step if there is one.

        Args:
            x: As for predict.

        Returns:
            (B, L) float64.

        Raises:
            InputError: As for predict.
            ModelError: As for predict.
            NotFittedError: Before fit.
        """
        self._need_fit("distances")
        parts = [m.statistics for _, m in self._measurements(x, "inputs", self._expected())]
        return torch.from_numpy(np.concatenate(parts))

    def _measure(self, inputs: Inputs) -> Measurement:
        with torch.no_grad():
            logits, pooled = self._pooled(inputs)
        names = tuple(f"inputs of {name}" for name in self._pooled.names)
        if not self._gaussians:
            values = [part.cpu().double().numpy() for part in pooled]
            return Measurement(logits, np.concatenate(values, axis=1), names, tuple(part.shape[1] for part in values))
        distances = [
            gaussians.nearest(self._moved(inputs, place, pooled[place]).cpu().double().numpy()) / 2
            for place, gaussians in enumerate(self._gaussians)
        ]
        return Measurement(logits, np.stack(distances, axis=1), names)

    def _moved(self, inputs: Inputs, place: int, pooled: Tensor) -> Tensor:
        """The pooled inputs of one layer after the step that is made for it."""
        if not self.epsilon:
            return pooled
        with torch.inference_mode(False):  # its tensors are backpropagated through
            distance = _Distance(self._gaussians[place], pooled)
        moved = step(lambda x: self._pooled(x)[1][place], distance, inputs, self.epsilon, self.deviations)
        with torch.no_grad():
            return self._pooled(moved)[1][place]

    def _learn(self, known: Samples, challenges: Samples | None, /) -> None:
        if challenges is not None:
            self._combination = Combination.fit(known.statistics, challenges.statistics, self.seed)

    def _score(self, statistics: Floats) -> Floats:
        if self._combination is not None:
            return self._combination.score(statistics)
        scores: Floats = statistics.sum(1)
        return scores

    def _profile(self, statistics: Floats) -> Floats:
        return statistics

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _state(self) -> dict[str, Array]:
        arrays = {f"{place}.{name}": a for place, g in enumerate(self._gaussians) for name, a in g.state().items()}
        combined = {} if self._combination is None else self._combination.state()
        return arrays | {f"combination.{name}": array for name, array in combined.items()}

    def _restore(self, state: Mapping[str, Array]) -> None:
        parts: dict[str, dict[str, Array]] = {}
        for key, array in state.items():
            part, name = key.split(".", 1)
            parts.setdefault(part, {})[name] = array
        combined = parts.pop("combination", None)
        self._combination = None if combined is None else Combination.restore(combined)
        self._gaussians = tuple(ClassGaussians.restore(parts[str(place)]) for place in range(len(parts)))

    def _parameters(self) -> dict[str, Any]:
        names = ("layers", "epsilon", "deviations", "seed", "output")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}


class _Distance:
    """Half the squared distance to the class mean that is nearest before the step, summed over the samples."""

    def __init__(self, gaussians: ClassGaussians, pooled: Tensor) -> None:
        nearest = gaussians.squared_distances(pooled.cpu().double().numpy()).argmin(1)
        self._centre = torch.from_numpy(gaussians.centre).to(pooled.device)
        self._root = torch.from_numpy(gaussians.root).to(pooled.device)
        self._means = torch.from_numpy(gaussians.means[nearest]).to(pooled.device)

    def __call__(self, values: Tensor) -> Tensor:
        moved = (values.double() - self._centre) @ self._root
        return (moved - self._means).square().sum() / 2
