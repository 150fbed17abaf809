"""Several labels sent back through one forward pass at once.

A backward pass is vectorised over labels. What it brings are the gradients (L B, ...) of L labels for B samples, those
of all samples for one label, and then for the next. The activations are the same for every label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Labels:
    """How many labels are on their way back, for those who meet the gradients.

    Attributes:
        count: Their number L.
    """

    def __init__(self) -> None:
        self.count = 1

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """So many are on their way now."""
        self.count = count
        try:
            yield
        finally:
            self.count = 1

    def met(self, gradient: Tensor, change: Callable[[Tensor], Tensor | None]) -> Tensor | None:
        """Give a gradient to a function that takes it stacked.

        Args:
            gradient: What a backward pass has brought; inside of `send_back` that of one label, for all of them.
            change: Maps gradients (L B, ...) to others (L B, ...), or to nothing.

        Returns:
            What the function has made of it, to be sent on.
        """
        if self.count == 1:
            return change(gradient)
        changed: Tensor = _Met.apply(gradient, change, self.count)
        return changed if changed.ndim else None


def send_back(outputs: Tensor, anchor: Tensor, seeds: Tensor) -> None:
    """Send several labels back at once; the graph stays.

    Args:
        outputs: What the model returned (B, ...).
        anchor: Where the way back ends.
        seeds: Gradients of the objective for each label (L, B, ...).
    """

    def one(seed: Tensor) -> Tensor:
        torch.autograd.grad(outputs, anchor, seed, retain_graph=True, allow_unused=True)
        return seed.new_zeros(())

    torch.vmap(one)(seeds)


def again(activations: Tensor, labels: int) -> Tensor:
    """Activations (B, ...) for the gradients of L labels, (L B, ...). Keeps the memory format."""
    return activations if labels == 1 else torch.cat([activations] * labels)


class _Met(torch.autograd.Function):
    """Hands the gradients of all labels together to a function; a scalar stands for nothing."""

    @staticmethod
    def forward(gradient: Tensor, change: Callable[[Tensor], Tensor | None], labels: int) -> Tensor:
        """Of a gradient that is the same for every label, such as one of zeros."""
        changed = change(again(gradient, labels))
        return gradient.new_zeros(()) if changed is None else changed[: len(gradient)]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is needed: no gradient is taken of this."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], gradient: Tensor, change: Callable[[Tensor], Any], labels: int
    ) -> tuple[Tensor, int | None]:
        """The gradients of all labels (L, B, ...), as (L B, ...)."""
        changed = change(gradient.movedim(in_dims[0], 0).flatten(0, 1))
        return (gradient.new_zeros(()), None) if changed is None else (changed.unflatten(0, (labels, -1)), 0)
