"""The loop over single samples: what the closed forms are checked against, and the last resort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import ModelError
from gradiometer.gradients import samples
from gradiometer.gradients.collector import Reduce
from gradiometer.gradients.factors import Dense, exact


class Loop:
    """Backpropagates one sample at a time.

    Args:
        forward: The model's forward pass.
        select: Picks the outputs that the objective sees.
        parameters: The parameters to read; they require gradients.
    """

    def __init__(
        self, forward: Callable[[Any], Any], select: Callable[[Any], Tensor], parameters: Mapping[str, Tensor]
    ) -> None:
        self._forward, self._select, self.parameters = forward, select, parameters

    def outputs(self, x: Any, batch: int) -> Tensor:
        """Outputs (B, ...) of the samples, each in a batch of its own."""
        with torch.no_grad():
            return torch.cat([self._select(self._forward(samples.take(x, at, at + 1))) for at in range(batch)])

    def statistics(self, x: Any, seeds: Tensor, batch: int, reduce: Reduce) -> dict[str, Tensor]:
        """The statistic of every parameter, each (B, ...)."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.parameters}
        for at in range(batch):
            outputs = self._select(self._forward(samples.take(x, at, at + 1)))
            for name, gradient in gradients_of(outputs, seeds[at : at + 1], self.parameters).items():
                found[name].append(reduce(name, Dense(exact(gradient).unsqueeze(0))))
        return {name: torch.cat(parts) for name, parts in found.items()}


def gradients_of(
    outputs: Tensor, seed: Tensor, parameters: Mapping[str, Tensor], *, keep: bool = False
) -> dict[str, Tensor]:
    """The gradient of every parameter by autograd.

    Args:
        outputs: Outputs of one sample, with their history.
        seed: Gradient of the objective with respect to them, same shape.
        parameters: The parameters by name.
        keep: Whether another backward pass follows through the same history.

    Returns:
        Gradients in the shapes of the parameters; zeros where one has no influence.

    Raises:
        ModelError: If autograd cannot differentiate the model.
    """
    found: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if outputs.requires_grad:
        wanted = list(parameters.values())
        try:
            found = torch.autograd.grad(outputs, wanted, seed.to(outputs.dtype), retain_graph=keep, allow_unused=True)
        except RuntimeError as error:
            raise ModelError(f"autograd cannot differentiate this model, not even for one sample: {error}") from error
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient.detach().to_dense()
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }
