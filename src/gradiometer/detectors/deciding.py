"""The two ways to turn readings into a score: a density of the known, or a network trained on a challenge too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.decision import DecisionNetwork
from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.samples import Samples
from gradiometer.errors import InputError, NotFittedError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Decision = NeighbourDensity | DecisionNetwork


class Deciding:
    """The part of a detector that scores non-negative statistics, shared by Purview and its control.

    A density of the known statistics when there are no challenges (the known-only protocol), a decision network on
    both otherwise; on the same standardised logs, with the same settings. Goes before Detector among the bases.

    Args:
        neighbours: Of the density.
        seed: Of the decision network.

    Attributes:
        decision: What was fitted, or None before fit.
    """

    learns_from_challenges = True
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"neighbours": [1, 5, 10, 20, 50]}

    def _decide_with(self, neighbours: int, seed: int) -> None:
        if neighbours < 1:
            raise InputError(f"neighbours is {neighbours}; give 1 or more")
        self.neighbours = neighbours
        self.seed = seed
        self.decision: Decision | None = None

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
