"""The members of a fusion: each looks at one side of what a network makes of an input, and scores how strange it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.gaussians import ClassGaussians, unit
from gradiometer.errors import NotFittedError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FLOOR = 1e-9
"""Squared distance or loss below which none is told apart; its log is the smallest there is."""


@dataclass(frozen=True, eq=False)
class Views:
    """What is read off a network for N inputs.

    Attributes:
        logits: (N, C).
        layers: Mean over positions (N, channels) of the input of some layers, in the order of the network; the last one
            makes the logits, and its input are the penultimate features.
        norms: Squared norms (N, F): of the inputs of all layers, and of gradients where there are any.
        shares: Share of the positions (N, channels) at which each channel of the input is above zero, of those of the
            same layers whose input has positions.
        changes: What a small step of the input changed (N, C + layers), as `stability.changes` gives it, or None.
        smoothed: Loss of the predicted class when the image is smoothed (N,), or None.
    """

    logits: Floats
    layers: tuple[Floats, ...]
    norms: Floats
    shares: tuple[Floats, ...] = ()
    changes: Floats | None = None
    smoothed: Floats | None = None

    def __len__(self) -> int:
        """Number of inputs N."""
        return len(self.logits)

    @property
    def features(self) -> Floats:
        """The penultimate features (N, D)."""
        return self.layers[-1]

    def select(self, rows: npt.NDArray[np.bool_]) -> Views:
        """The views of some rows."""
        layers, shares = (tuple(values[rows] for values in each) for each in (self.layers, self.shares))
        changes, smoothed = (None if values is None else values[rows] for values in (self.changes, self.smoothed))
        return Views(self.logits[rows], layers, self.norms[rows], shares, changes, smoothed)


class Member(Protocol):
    """One side of a fusion."""

    name: ClassVar[str]  #: What it looks at.
    weight: ClassVar[int]  #: How often its surprise counts in the sum.

    def fit(self, known: Views, labels: Integers) -> None:
        """Learn from known inputs and their classes."""

    def settle(self, held_out: Views) -> None:
        """Adjust to known inputs that were not fitted on."""

    def score(self, views: Views) -> Floats:
        """How strange each input is, (N,): higher = stranger."""

    def details(self, views: Views) -> Floats:
        """What the score is made from, on a log scale, (N, P)."""

    def state(self) -> dict[str, Array]:
        """Everything learnt, as arrays by name."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back what state gave."""


class Settled:
    """Base of the members for which known inputs that were not fitted on change nothing."""

    weight: ClassVar[int] = 1

    def settle(self, held_out: Views) -> None:
        """Nothing to adjust."""


class GaussianMember(Settled, ABC):
    """Base of the members that learn the class means of some values, and how these vary around them."""

    @staticmethod
    @abstractmethod
    def _values(views: Views) -> Floats:
        """The values (N, D)."""

    def fit(self, known: Views, labels: Integers) -> None:
        """Learn the means of the classes."""
        self.gaussians = ClassGaussians.fit(self._values(known), labels)

    def state(self) -> dict[str, Array]:
        """The Gaussians."""
        return self.gaussians.state()

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back the Gaussians."""
        self.gaussians = ClassGaussians.restore(state)


class FeatureDistance(GaussianMember):
    """Squared Mahalanobis distance of the penultimate features, divided by their norm, to the nearest class mean."""

    name: ClassVar[str] = "features"

    def score(self, views: Views) -> Floats:
        """Squared distance (N,)."""
        return self.gaussians.nearest(self._values(views))

    def details(self, views: Views) -> Floats:
        """Nothing (N, 0): this distance is among those of the layers."""
        return np.empty((len(views), 0))

    @staticmethod
    def _values(views: Views) -> Floats:
        return unit(views.features)


class PredictedDistance(GaussianMember):
    """Base of the members that take the squared Mahalanobis distance to the mean of the class that is predicted.

    They are two-sided: values that are off the mean in one direction are as strange as in the other.
    """

    def score(self, views: Views) -> Floats:
        """Squared distance (N,)."""
        return self.gaussians.to(self._values(views), views.logits.argmax(1))

    def details(self, views: Views) -> Floats:
        """Natural log of the squared distance (N, 1)."""
        logs: Floats = np.log(np.maximum(self.score(views), FLOOR))[:, None]
        return logs


class LogitDistance(PredictedDistance):
    """Squared Mahalanobis distance of the logits to the mean of the class that they predict.

    Two-sided: logits that are more certain than those of known images are as strange as less certain ones.
    """

    name: ClassVar[str] = "logits"

    @staticmethod
    def _values(views: Views) -> Floats:
        return views.logits


class LearnsNothing(Settled):
    """Base of the members that learn nothing but how their score is distributed."""

    def fit(self, known: Views, labels: Integers) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, Array]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Nothing to take back."""


class LogitScore(LearnsNothing):
    """Base of the members that score the logits as they are. One-sided."""

    def details(self, views: Views) -> Floats:
        """Nothing (N, 0): the logits are among the details of `LogitDistance`."""
        return np.empty((len(views), 0))


class LogitEnergy(LogitScore):
    """Energy of the logits, -log sum exp z (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).

    High where all logits are low. Of all members the best for inputs that resemble the known classes.
    """

    name: ClassVar[str] = "energy"

    def score(self, views: Views) -> Floats:
        """Energy (N,)."""
        energy: Floats = -np.logaddexp.reduce(views.logits, axis=1)
        return energy


class Confidence(LogitScore):
    """Minus the log of the odds of the largest softmax probability (Hendrycks and Gimpel, ICLR 2017).

    High where two classes are about as likely. Of all members the best for attacks that stop at the decision boundary.
    On the scale of the odds the tail of a network that is sure of all its training images stays long enough for known
    images that it has not seen.
    """

    name: ClassVar[str] = "confidence"

    def score(self, views: Views) -> Floats:
        """Log of the odds (N,) against the class that is predicted."""
        ascending = np.sort(views.logits, axis=1)
        odds: Floats = np.logaddexp.reduce(ascending[:, :-1], axis=1) - ascending[:, -1]
        return odds


class NormDistance(Settled):
    """Distance to the k-th nearest known input in the space of the standardised logs of the norms.

    Args:
        neighbours: k.
    """

    name: ClassVar[str] = "norms"

    def __init__(self, neighbours: int) -> None:
        self.density = NeighbourDensity(neighbours)

    def fit(self, known: Views, labels: Integers) -> None:
        """Remember the norms."""
        self.density.fit(known.norms)

    def score(self, views: Views) -> Floats:
        """Distance (N,)."""
        return self.density.score(views.norms)

    def details(self, views: Views) -> Floats:
        """Natural logs of the norms (N, F)."""
        if self.density.scale is None:
            raise NotFittedError("the member has learnt nothing yet; fit the fusion first")
        return self.density.scale.log(views.norms)

    def state(self) -> dict[str, Array]:
        """The density."""
        return self.density.state()

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back the density."""
        self.density = NeighbourDensity.restore(state)


class LayersMember(ABC):
    """Base of the members that look at several layers, each on its own: log distances that are standardised.

    In each layer the distance is that of `FeatureDistance`, on something of the layer's input. Its log is standardised
    on held-out known inputs, so that layers of any width can be compared.
    """

    weight: ClassVar[int] = 1

    def __init__(self) -> None:
        self.gaussians: list[ClassGaussians] = []
        self.mean = self.deviation = np.zeros(0)

    @abstractmethod
    def _layers(self, views: Views) -> list[Floats]:
        """What is looked at in each layer (N, channels)."""

    def fit(self, known: Views, labels: Integers) -> None:
        """Learn the means of the classes in every layer."""
        self.gaussians = [ClassGaussians.fit(values, labels) for values in self._layers(known)]

    def settle(self, held_out: Views) -> None:
        """Learn how the distances vary in every layer."""
        logs = self.details(held_out)
        self.mean, deviation = logs.mean(0), logs.std(0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)

    def details(self, views: Views) -> Floats:
        """Natural log of the squared distance in every layer (N, layers)."""
        distances = [g.nearest(values) for g, values in zip(self.gaussians, self._layers(views), strict=True)]
        logs: Floats = np.log(np.maximum(np.stack(distances, axis=1), FLOOR))
        return logs

    def state(self) -> dict[str, Array]:
        """The Gaussians of every layer, and how the distances vary."""
        arrays = {f"{place}.{name}": a for place, g in enumerate(self.gaussians) for name, a in g.state().items()}
        return arrays | {"mean": self.mean, "deviation": self.deviation}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back what state gave."""
        self.mean, self.deviation = (np.asarray(state[name], dtype=np.float64) for name in ("mean", "deviation"))
        self.gaussians = [
            ClassGaussians.restore({k.removeprefix(f"{n}."): a for k, a in state.items() if k.startswith(f"{n}.")})
            for n in range(len(self.mean))
        ]

    def _standardised(self, views: Views) -> Floats:
        """The details on one scale (N, layers)."""
        standardised: Floats = (self.details(views) - self.mean) / self.deviation
        return standardised


class LayerDistance(LayersMember):
    """The layer that is farthest out of line, by the mean of its input over all positions.

    Args:
        divided: Whether means are divided by their norm.
    """

    name: ClassVar[str] = "layers"

    def __init__(self, *, divided: bool) -> None:
        super().__init__()
        self.divided = divided

    def score(self, views: Views) -> Floats:
        """The largest standardised log distance (N,)."""
        largest: Floats = self._standardised(views).max(1)
        return largest

    def _layers(self, views: Views) -> list[Floats]:
        return [unit(values) if self.divided else values for values in views.layers]


class ActivityDistance(LayersMember):
    """How far all layers together are out of line, by which channels are active, and at how many positions.

    A share of positions varies the more the nearer it is to one half; the arc sine of its root varies about alike.
    """

    name: ClassVar[str] = "activity"

    def score(self, views: Views) -> Floats:
        """Sum of the standardised log distances (N,)."""
        total: Floats = self._standardised(views).sum(1)
        return total

    def _layers(self, views: Views) -> list[Floats]:
        return [np.arcsin(np.sqrt(values.clip(0, 1))) for values in views.shares]
