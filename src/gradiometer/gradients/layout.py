"""Where the samples of a batch lie inside an activation.

Most activations have one sample per row. Others do not: a sequence-first transformer has its batch in the second
dimension, a network that looks at windows or frames folds them into the batch. A layout says which dimension holds
the batch, and, where that dimension holds several slices of each sample, in which order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The batch dimension of an activation.

    Attributes:
        dim: The dimension, whose size is B times the number of slices of one sample.
        outer: How many of the slices run slower than the sample index: 1 for `(B, T)` flattened, T for `(T, B)`.
    """

    dim: int = 0
    outer: int = 1

    def split(self, tensor: Tensor, batch: int) -> Tensor:
        """Bring the samples to the front.

        Args:
            tensor: An activation with this layout.
            batch: Number of samples B.

        Returns:
            (B, ...): entry b is what the activation would be for the batch that holds sample b alone.
        """
        if self.dim == 0 and self.outer == 1:
            return tensor.unflatten(0, (batch, -1)) if len(tensor) > batch else tensor.unsqueeze(1)
        inner = tensor.shape[self.dim] // (batch * self.outer)
        samples: Tensor = tensor.unflatten(self.dim, (self.outer, batch, inner))
        return samples.movedim(self.dim + 1, 0).flatten(self.dim + 1, self.dim + 2)

    def fits(self, tensor: Tensor, batch: int) -> bool:
        """Whether an activation of this shape can have this layout for B samples."""
        return (
            tensor.ndim > self.dim and tensor.shape[self.dim] > 0 and tensor.shape[self.dim] % (batch * self.outer) == 0
        )


def find_layout(first: Tensor, changed: Tensor, larger: Tensor, batch: int) -> Layout | None:
    """Find the layout of an activation from three runs of the same network.

    Args:
        first: The activation for a batch of B samples.
        changed: The same with the first sample replaced.
        larger: The same for a batch of B + 1 samples.
        batch: Number of samples B of the first two.

    Returns:
        The layout, or None when no layout explains what was seen (the samples are mixed), or several do (nothing
        that tells them apart depends on the sample).
    """
    if first.shape != changed.shape or first.ndim != larger.ndim:
        return None
    grown = [dim for dim, (size, more) in enumerate(zip(first.shape, larger.shape, strict=True)) if size != more]
    if len(grown) != 1 or first.shape[grown[0]] * (batch + 1) != larger.shape[grown[0]] * batch:
        return None
    (dim,) = grown
    different = first.detach() != changed.detach()
    slices = first.shape[dim] // batch
    candidates = [Layout(dim, outer) for outer in range(1, slices + 1) if slices % outer == 0]
    fitting = [layout for layout in candidates if not bool(layout.split(different, batch)[1:].any())]
    return fitting[0] if len(fitting) == 1 else None


def same_values(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same shape and the same values, NaN counted as equal to NaN."""
    if first.shape != second.shape:
        return False
    both_nan = (first != first) & (second != second)
    return bool(((first == second) | both_nan).all())
