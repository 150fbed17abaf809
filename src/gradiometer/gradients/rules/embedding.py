"""Embeddings: the gradient of a row is the sum of the errors at the positions that read it."""

from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.gradients.factors import Factor, Sides, wide
from gradiometer.gradients.rules.registry import Call, layer_rule


class LookedUp(Factor):
    """Gradients of a table of which each sample reads a few rows.

    Two positions of a sample contribute to the same entries if they read the same row, so the squared norm is the sum
    of the S x S Gram matrix of the errors over pairs of equal indices: the table itself never appears.

    Args:
        indices: Rows that are read (B, S).
        errors: Gradients of the rows as read (B, S, D).
        rows: Number of rows of the table.
        skipped: A row that gets no gradient, or None.
    """

    form = "rows"

    def __init__(self, indices: Tensor, errors: Tensor, rows: int, skipped: int | None) -> None:
        super().__init__(len(indices), torch.Size((rows, errors.shape[2])))
        self._indices = indices
        errors = wide(errors)
        self._errors = errors if skipped is None else errors * (indices != skipped).unsqueeze(2)

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients (stop - start, rows, D)."""
        indices, errors = self._indices[start:stop], self._errors[start:stop]
        table = errors.new_zeros(stop - start, *self.shape)
        return table.scatter_add_(1, indices.unsqueeze(2).expand_as(errors), errors)

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        if self._indices.shape[1] > self.shape[0]:  # more positions than rows: the table is the smaller matter
            return super().squared_norms()
        same = self._indices.unsqueeze(1) == self._indices.unsqueeze(2)
        return (self._errors @ self._errors.mT).mul_(same).sum((1, 2))

    def sides(self, directions: int) -> Sides | None:
        """Both sides, unless there are more positions than rows; the Gram matrix says which positions read one row."""
        positions, width = self._errors.shape[1:]
        if positions > self.shape[0]:
            return None

        def same(start: int, stop: int) -> Tensor:
            indices = self._indices[start:stop]
            return (indices.unsqueeze(1) == indices.unsqueeze(2)).to(self._errors.dtype).unsqueeze(1)

        return Sides(
            same, lambda start, stop: self._errors[start:stop].mT.unsqueeze(1), positions**2, positions * width
        )

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,): the reference is read at the same rows."""
        return (reference.to(self._errors.dtype)[self._indices] * self._errors).sum((1, 2))


@layer_rule(
    torch.nn.functional.embedding_bag,
    arguments="input weight offsets max_norm norm_type scale_grad_by_freq mode sparse per_sample_weights "
    "include_last_offset padding_idx",
)
def embedding_bag(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`embedding_bag(indices, weight)` with one bag of S indices a row, summed or averaged."""
    indices, mode = call.weight("input"), call.get("mode", "mean")
    unusual = call.get("max_norm") is not None or call.get("scale_grad_by_freq", False)
    if indices.ndim != 2 or mode == "max" or unusual or call.wanted != {"weight"} or call.layouts["input"].dim != 0:
        return None
    padding = call.get("padding_idx")
    if padding is not None:
        return None
    bags = call.samples("input")
    share = errors.unsqueeze(-2) / (bags.shape[-1] if mode == "mean" else 1)
    if call.get("per_sample_weights") is not None:
        share = share * call.samples("per_sample_weights").unsqueeze(-1)
    share = share.expand(*bags.shape, errors.shape[-1])
    return {"weight": LookedUp(bags.flatten(1), share.flatten(1, -2), call.weight("weight").shape[0], None)}


@layer_rule(
    torch.nn.functional.embedding,
    arguments="input weight padding_idx max_norm norm_type scale_grad_by_freq sparse",
)
def embedding(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`embedding(indices, weight)` with indices of any shape."""
    if call.get("max_norm") is not None or call.get("scale_grad_by_freq", False):
        return None
    rows = call.weight("weight").shape[0]
    padding = call.get("padding_idx")
    skipped = padding if padding is None or padding >= 0 else rows + padding
    return {"weight": LookedUp(call.samples("input").flatten(1), errors.flatten(1, -2), rows, skipped)}
