"""What is read of each sample's gradients, by the instrument and by those that have the gradients themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradiometer import Gradiometer


@dataclass(frozen=True)
class Statistic:
    """Squared norms, inner products with a reference, or both.

    Values have the shape (B, T) for one of them, and (B, T, 2) for both, inner products first.

    Attributes:
        title: Its name in tables.
        products: Whether inner products are read.
        squares: Whether squared norms are read.
    """

    title: str
    products: bool = False
    squares: bool = True

    def of(self, gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        """The values from gradients that somebody else has formed.

        Args:
            gradients: Gradients (B, *shape) of each of the T tensors.
            reference: The reference of each of them; not looked at for squared norms alone.
        """
        flat = [each.flatten(1) for each in gradients]
        found = []
        if self.products:
            found.append(torch.stack([one @ other.flatten() for one, other in zip(flat, reference, strict=True)], 1))
        if self.squares:
            found.append(torch.stack([torch.linalg.vecdot(each, each) for each in flat], 1))
        return torch.stack(found, -1) if len(found) > 1 else found[0]

    def alone(self, gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        """The values (T,) or (T, 2) of one sample, from gradients of the shapes of the parameters."""
        found = []
        if self.products:
            found.append(torch.stack([(one * other).sum() for one, other in zip(gradients, reference, strict=True)]))
        if self.squares:
            found.append(torch.stack([each.square().sum() for each in gradients]))
        return torch.stack(found, -1) if len(found) > 1 else found[0]

    def read(self, meter: Gradiometer, inputs: Tensor, reference: Mapping[str, Tensor]) -> Tensor:
        """The values by the instrument."""
        if not self.products:
            return meter.squared_norms(inputs).values
        if not self.squares:
            return meter.inner_products(inputs, reference).values
        products, squares = meter.alignments(inputs, reference)
        return torch.stack([products.values, squares.values], -1)

    @property
    def method(self) -> str:
        """The method of the instrument that reads it."""
        if not self.products:
            return "squared_norms"
        return "alignments" if self.squares else "inner_products"

    def sizes(self, gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        """What a difference of the values is measured by, in their shape.

        A squared norm is compared with itself, an inner product with the product of the two norms, because it may be
        zero by chance. Norms below a thousandth of the whole gradient's count as that: they are rounding themselves.
        """
        squares = SQUARED_NORMS.of(gradients, reference)
        squares = torch.maximum(squares, 1e-6 * squares.sum(1, keepdim=True))
        if not self.products:
            return squares
        lengths = torch.stack([torch.linalg.vector_norm(each) for each in reference])
        products = squares.sqrt() * lengths
        return torch.stack([products, squares], -1) if self.squares else products


SQUARED_NORMS = Statistic("squared norms")
INNER_PRODUCTS = Statistic("inner products with a reference", products=True, squares=False)
ALIGNMENTS = Statistic("inner products with a reference and squared norms", products=True)
