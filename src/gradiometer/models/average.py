"""A moving average of a network's weights and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of every float in the state of a model.

    Args:
        model: The model that is trained.
        decay: What is left of the average after one update, between 0 and 1.

    Attributes:
        values: The average, by name.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._current = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        self._decay = decay
        self.values = {name: value.clone() for name, value in self._current.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model."""
        torch._foreach_lerp_(list(self.values.values()), list(self._current.values()), 1 - self._decay)

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Continue from the values of an earlier run."""
        for name, value in values.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def become_model(self) -> None:
        """Write the average into the model."""
        for name, value in self._current.items():
            value.copy_(self.values[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model be the average for a while."""
        kept = {name: value.clone() for name, value in self._current.items()}
        self.become_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._current.items():
                    value.copy_(kept[name])
