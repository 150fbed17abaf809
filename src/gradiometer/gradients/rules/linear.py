"""Linear layers: the gradient is a sum of outer products, one for each position of the sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradiometer.gradients import kernels
from gradiometer.gradients.factors import Dense, Factor, Sides, wide
from gradiometer.gradients.rules.elementwise import broadcast
from gradiometer.gradients.rules.registry import Call, layer_rule

#: Positions from which a Gram matrix is worth dividing, and into how many blocks at most.
_BLOCK, _MOST_BLOCKS = 48, 4
#: How many multiplications of the explicit product take as long as one in the kernel of our own.
_SLOWER = 1.4


class Outer(Factor):
    """Gradient `sum_s e[s] x a[s]` of a weight (O, I).

    With S = 1 the squared norm is `|a|^2 |e|^2` (Goodfellow, "Efficient per-example gradient computations", 2015).
    For sequences it is the inner product of two S x S Gram matrices, or the norm of the explicit product, whichever
    takes fewer multiplications. Gram matrices are symmetric: a kernel of our own forms one side of the diagonal, a tile
    at a time (form `kernel`); without it, of long sequences, only the blocks on one side are formed (`gram`).

    Args:
        inputs: Inputs of the layer (B, S, I).
        errors: Gradients of its outputs (B, S, O).
        transposed: Whether the weight is stored as (I, O).
    """

    def __init__(self, inputs: Tensor, errors: Tensor, *, transposed: bool = False) -> None:
        self.inputs, self.errors = wide(inputs), wide(errors)
        self.transposed = transposed
        left, right = (self.inputs, self.errors) if transposed else (self.errors, self.inputs)
        super().__init__(len(inputs), torch.Size((left.shape[2], right.shape[2])))
        positions = inputs.shape[1]
        self._blocks = min(_MOST_BLOCKS, max(1, positions // _BLOCK))
        share = (self._blocks + 1) / (2 * self._blocks)
        pairs = positions * (self.shape[0] + self.shape[1])
        if positions == 1:
            self.form = "outer"
        elif _SLOWER * pairs / 2 < self.shape.numel() and kernels.fits(self.inputs, self.errors):
            self.form = "kernel"
        else:
            self.form = "gram" if share * pairs < self.shape.numel() else "explicit"

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients (stop - start, O, I)."""
        product = self.errors[start:stop].mT @ self.inputs[start:stop]
        return product.mT if self.transposed else product

    def squared_norms(self) -> Tensor:
        """Squared norms (B,), without the explicit product where that is cheaper."""
        if self.form == "outer":
            return self.inputs.square().sum((1, 2)) * self.errors.square().sum((1, 2))
        if self.form == "kernel":
            return kernels.sequences(self.inputs, self.errors)
        if self.form == "gram":
            return self._gram()
        return super().squared_norms()

    def _gram(self) -> Tensor:
        """Squared norms (B,) from the Gram matrices, block by block; one off the diagonal stands for its mirror too."""
        total = torch.zeros((), dtype=self.inputs.dtype, device=self.inputs.device)
        size = -(-self.inputs.shape[1] // self._blocks)
        for start in range(0, self.inputs.shape[1], size):
            inputs, errors = self.inputs[:, start : start + size], self.errors[:, start : start + size]
            total = total + (inputs @ inputs.mT).mul_(errors @ errors.mT).sum((1, 2))
            if start + size < self.inputs.shape[1]:
                behind = self.inputs[:, start + size :].mT, self.errors[:, start + size :].mT
                total = total + (inputs @ behind[0]).mul_(errors @ behind[1]).sum((1, 2)) * 2
        return total

    def absolute_sums(self) -> Tensor:
        """L1 norms (B,)."""
        if self.form == "outer":
            return self.inputs.abs().sum((1, 2)) * self.errors.abs().sum((1, 2))
        return super().absolute_sums()

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,): one more forward pass of the layer with the reference as its weight."""
        weight = reference.to(self.inputs.dtype)
        outputs = self.inputs @ (weight if self.transposed else weight.mT)
        return (outputs * self.errors).sum((1, 2))

    def sides(self, directions: int) -> Sides | None:
        """Both sides, unless positions are so many that the explicit product takes fewer multiplications."""
        positions, inputs = self.inputs.shape[1:]
        outputs = self.errors.shape[2]
        apart = positions**2 * (inputs / directions + outputs) + directions * positions * outputs
        if apart >= positions * inputs * outputs + directions * inputs * outputs:
            return None
        return Sides(
            lambda start, stop: (self.inputs[start:stop] @ self.inputs[start:stop].mT).unsqueeze(1),
            lambda start, stop: self.errors[start:stop].mT.unsqueeze(1),
            positions**2,
            positions * outputs,
        )

    @staticmethod
    def joined(parts: Sequence[Outer]) -> Outer:
        """The sum of several uses of one weight: their positions side by side."""
        return Outer(
            torch.cat([part.inputs for part in parts], 1),
            torch.cat([part.errors for part in parts], 1),
            transposed=parts[0].transposed,
        )


@layer_rule(torch.nn.functional.linear, arguments="input weight bias")
def linear(call: Call, errors: Tensor) -> dict[str, Factor]:
    """`linear(input, weight, bias)` with inputs (*, I) and outputs (*, O)."""
    found: dict[str, Factor] = {}
    if "weight" in call.wanted:
        found["weight"] = Outer(call.samples("input").flatten(1, -2), errors.flatten(1, -2))
    if "bias" in call.wanted:
        found["bias"] = Dense(wide(errors).flatten(1, -2).sum(1))
    return found


@layer_rule(torch.matmul, torch.Tensor.matmul, torch.mm, torch.Tensor.mm, arguments="input other")
def product(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`input @ weight` with a two-dimensional weight (I, O) on the right."""
    if call.wanted != {"other"} or call.weight("other").ndim != 2 or call.weight("input").ndim < 2:
        return None
    return {"other": Outer(call.samples("input").flatten(1, -2), errors.flatten(1, -2), transposed=True)}


@layer_rule(torch.addmm, torch.Tensor.addmm, arguments="input mat1 mat2")
def affine(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """`addmm(bias, inputs, weight)`: the linear layer of GPT-2 (weight stored as (I, O))."""
    if "mat1" in call.wanted or call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        return None
    found: dict[str, Factor] = {}
    if "mat2" in call.wanted:
        found["mat2"] = Outer(call.samples("mat1").flatten(1, -2), errors.flatten(1, -2), transposed=True)
    if "input" in call.wanted:
        found["input"] = broadcast(call.weight("input"), errors)
    return found
