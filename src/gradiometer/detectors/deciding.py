"""Readings and their two ways to a score: a density of the known, or a network trained on a challenge too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gradiometer import given
from gradiometer.detectors.decision import DecisionNetwork
from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.layers import asked, spread
from gradiometer.detectors.norms import channel_columns
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import NotFittedError
from gradiometer.gradients import Gradiometer, Readings

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Decision = NeighbourDensity | DecisionNetwork


class Deciding:
    """The part of a detector that scores non-negative statistics, shared by Purview and its control.

    A density of the known statistics when there are no challenges (the known-only protocol), a decision network on
    both otherwise; on the same standardised logs, with the same settings. Goes before Detector among the bases.

    Args:
        layers: Of which layers the channels are read one by one.
        neighbours: Of the density.
        seed: Of the decision network.

    Attributes:
        decision: What was fitted, or None before fit.
    """

    learns_from_challenges = True
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"neighbours": [1, 5, 10, 20, 50]}

    def _decide_with(self, layers: int | Sequence[str], neighbours: int, seed: int) -> None:
        self.layers = asked(layers, least=0)
        self.neighbours = given.whole("neighbours", neighbours)
        self.seed = given.whole("seed", seed, least=0)
        self.decision: Decision | None = None
        self._chosen: tuple[str, ...] = ()

    def _choose(self, meter: Gradiometer, inputs: Inputs) -> tuple[str, ...]:
        """Names of the weights of the layers whose channels are read, which the first inputs show."""
        if self.layers and not self._chosen:
            self._chosen = spread(meter.layers(inputs), self.layers)
        return self._chosen

    def _with_channels(self, readings: Readings, norms: tuple[Floats, tuple[str, ...]]) -> Measurement:
        """Norms, and what was read of single channels, as columns with their names."""
        values, names = norms
        if readings.means:
            channels, of = channel_columns(readings)
            values, names = np.concatenate([values, channels], axis=1), (*names, *of)
        return Measurement(readings.outputs, values, names)

    def _learn(self, known: Samples, challenges: Samples | None, /) -> None:
        self.decision = None
        if challenges is None:
            self.decision = NeighbourDensity(self.neighbours).fit(known.statistics)
            return
        network = DecisionNetwork(seed=self.seed)
        self.decision = network.fit(known.statistics, challenges.statistics, known.groups, challenges.groups)

    def _score(self, statistics: Floats) -> Floats:
        return self._fitted().score(statistics)

    def _profile(self, statistics: Floats) -> Floats:
        scale = self._fitted().scale
        return statistics if scale is None else scale.log(statistics)

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _state(self) -> dict[str, Array]:
        return self._fitted().state()

    def _restore(self, state: Mapping[str, Array]) -> None:
        self.decision = (NeighbourDensity if "reference" in state else DecisionNetwork).restore(state)

    def _fitted(self) -> Decision:
        if self.decision is None:
            raise NotFittedError("the detector has learnt nothing yet; call fit(known) first")
        return self.decision
