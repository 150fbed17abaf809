"""Where the samples of a batch lie inside an activation.

Most activations have one sample per row. Others do not: a sequence-first transformer has its batch in the second
dimension, a network that looks at windows or frames folds them into the batch. A layout says which dimension holds
the batch, and, where that dimension holds several slices of each sample, in which order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The batch dimension of an activation.

    Attributes:
        dim: The dimension, whose size is B times the number of slices of one sample.
        slices_first: Whether the slice index runs slower than the sample index (`(T, B)` flattened), or faster
            (`(B, T)` flattened, the usual case).
    """

    dim: int = 0
    slices_first: bool = False

    def split(self, tensor: Tensor, batch: int) -> Tensor:
        """Bring the samples to the front.

        Args:
            tensor: An activation with this layout.
            batch: Number of samples B.

        Returns:
            (B, ...): entry b is what the activation would be for the batch that holds sample b alone.
        """
        slices = tensor.shape[self.dim] // batch
        shape = (slices, batch) if self.slices_first else (batch, slices)
        return tensor.unflatten(self.dim, shape).movedim(self.dim + int(self.slices_first), 0)

    def fits(self, tensor: Tensor, batch: int) -> bool:
        """Whether an activation of this shape can have this layout for B samples."""
        return tensor.ndim > self.dim and tensor.shape[self.dim] % batch == 0 and tensor.shape[self.dim] >= batch


def find_layout(first: Tensor, changed: Tensor, larger: Tensor, batch: int) -> Layout | None:
    """Find the layout of an activation from three runs of the same network.

    Args:
        first: The activation for a batch of B samples.
        changed: The same with the first sample replaced.
        larger: The same for a batch of B + 1 samples.
        batch: Number of samples B of the first two.

    Returns:
        The layout, or None when no layout explains what was seen (the samples are mixed).
    """
    different = first.detach() != changed.detach()
    candidates = [
        layout
        for dim in range(first.ndim)
        for layout in (Layout(dim), Layout(dim, slices_first=True))
        if first.ndim == larger.ndim
        and first.shape[dim] * (batch + 1) == larger.shape[dim] * batch
        and first.shape[:dim] == larger.shape[:dim]
        and first.shape[dim + 1 :] == larger.shape[dim + 1 :]
    ]
    fitting = [layout for layout in candidates if not bool(layout.split(different, batch)[1:].any())]
    return fitting[0] if fitting else None


def same_values(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same shape and the same values, NaN counted as equal to NaN."""
    return first.shape == second.shape and bool(torch.eq(first, second).logical_or((first != first) & (second != second)).all())
