"""Inner products between the gradients of several directions that are sent back through one forward pass.

Directions differ in the errors alone; the inputs of an operation are the same for all. So the Gram matrix of the inputs
is made once, and the inner products of R directions at S positions with O outputs,

    K[c, d] = sum_{s, t} (a[s] . a[t]) (e_c[s] . e_d[t]) = <E_c, E_d (A A^T)>,

cost S^2 O R products more, and nothing of the size of the parameter. Where the explicit gradient is cheaper, it is kept
in place of the errors of each direction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gradiometer.gradients.factors import CHUNK, Dense, Factor, Sides, exact, wide

#: Numbers of a gradient without two sides that is kept for later as it is.
_EXPLICIT = 2**18
#: Inner products of a gradient with itself below it may have lost squares to underflow.
_SMALL = 1e-30

Places = Sequence[Sequence[tuple[int, int]]]
"""For each factor: where the gradients of the same samples lie, for each of its directions."""


def products(batch: int, rows: Sequence[Factor], columns: Sequence[Factor] | None = None) -> Tensor:
    """Inner products of the gradients of one parameter.

    Args:
        batch: Number of samples B.
        rows: Factors of R directions in all, each of one direction or of several, one behind the other.
        columns: Factors of Q directions in all; the same as the rows when absent.

    Returns:
        float64 (B, R, Q).
    """
    every = [*rows, *(columns or ())]
    count, own = (sum(factor.batch for factor in factors) // batch for factors in (every, rows))
    sides = [_sides(factor, count) for factor in every]
    apart = [found for found in sides if found is not None]
    by_sides = len(apart) == len(every)
    size = apart[0].gram_size + 3 * count * apart[0].error_size if by_sides else 2 * count * rows[0].shape.numel()
    step = max(1, CHUNK // (4 * size))
    parts = []
    for start in range(0, batch, step):
        bounds = start, min(start + step, batch)
        places = [[(first + start, first + bounds[1]) for first in range(0, factor.batch, batch)] for factor in every]
        left, right = _by_sides(apart, places, bounds) if by_sides else _explicit(every, places)
        across = right if columns is None else right[:, own:]
        parts.append(exact(left[:, :own] @ across.mT))
    return torch.cat(parts)


def _by_sides(sides: Sequence[Sides], places: Places, bounds: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two tensors (b, R, *) whose products are the inner products: errors, and errors times the Gram matrix."""
    errors = torch.stack([found.errors(*at) for found, each in zip(sides, places, strict=True) for at in each], 2)
    spread = errors.flatten(2, 3) @ sides[0].gram(*bounds)
    return errors.transpose(1, 2).flatten(2), spread.view_as(errors).transpose(1, 2).flatten(2)


def _explicit(factors: Sequence[Factor], places: Places) -> tuple[Tensor, Tensor]:
    pairs = zip(factors, places, strict=True)
    gradients = torch.stack([_flat(factor, *at) for factor, each in pairs for at in each], 1)
    return gradients, gradients


def _flat(factor: Factor, start: int, stop: int) -> Tensor:
    return wide(factor.gradients(start, stop)).reshape(stop - start, -1)


def _sides(factor: Factor, directions: int) -> Sides | None:
    return None if factor.exchanged else factor.sides(directions)


def kept(factor: Factor, directions: int) -> Factor:
    """The factor in the form in which it waits for the other directions: explicit, or apart as it is."""
    if isinstance(factor, Dense):
        return Dense(factor.gradients(0, factor.batch))
    if _sides(factor, directions) is not None or factor.shape.numel() > _EXPLICIT:
        return factor
    return Dense(torch.cat([factor.gradients(*bounds) for bounds in factor.chunks()]))


def kept_size(factor: Factor, directions: int) -> int:
    """Numbers that are kept for one sample and one direction."""
    sides = _sides(factor, directions)
    return factor.shape.numel() if sides is None else min(sides.error_size, factor.shape.numel())


class Together:
    """Gathers the inner products of many directions, of which it keeps a block at a time.

    Each direction of the block is kept; each later one meets the block and is forgotten. Several directions may come at
    once, one behind the other.

    Args:
        parameters: Names of the parameters.
        batch: Number of samples B.
        directions: Number of directions C.
        device: Where the products are gathered.

    Attributes:
        values: Inner products float64 (B, C, C) by name.
        doubtful: Parameters whose products may have left the range of float32 on the way.
    """

    def __init__(self, parameters: Collection[str], batch: int, directions: int, device: torch.device) -> None:
        shape = (batch, directions, directions)
        self.values = {name: exact(torch.zeros(shape, device=device)) for name in parameters}
        self.doubtful: set[str] = set()
        self._batch, self._directions = batch, directions
        self._held: dict[str, dict[range, Factor]] = {}
        self._met: set[str] = set()
        self._block = self._now = range(0)

    def open(self, block: range) -> None:
        """Start the block of these directions."""
        self._block, self._held, self._met = block, {}, set()

    def turn(self, directions: range) -> None:
        """Say which directions are sent back next: all of the block, or none of it."""
        self._now = directions

    def take(self, name: str, factor: Factor) -> Tensor:
        """A statistic for a reader: takes a factor of the directions whose turn it is, and returns nothing."""
        held = self._held.setdefault(name, {})
        if self._now.start in self._block:
            held[self._now] = kept(factor, len(self._block))
            if self._now.stop == self._block.stop:
                self._meet(name)
        elif held:
            found, rows = products(self._batch, list(held.values()), [factor]), _numbers(held)
            self.values[name][:, rows, self._now.start : self._now.stop] = found
            self.values[name][:, self._now.start : self._now.stop, rows] = found.mT
        return torch.empty(factor.batch, 0, 0)

    def close(self) -> None:
        """Finish what did not get a factor for the last direction of the block."""
        for name in set(self._held) - self._met:
            self._meet(name)
        self._held = {}

    def _meet(self, name: str) -> None:
        """The products within the block, after which the last block is forgotten."""
        held = self._held[name]
        self._met.add(name)
        numbers = torch.tensor(_numbers(held))
        found = products(self._batch, list(held.values()))
        self.values[name][:, numbers.unsqueeze(1), numbers] = found
        own = found.diagonal(dim1=1, dim2=2)
        certain = torch.isfinite(own) & (own >= _SMALL)
        if not bool(certain.all()):
            zeros = torch.cat([factor.vanishing().view(-1, self._batch) for factor in held.values()])
            zeros = zeros.mT.to(certain.device)
            if not bool((certain | zeros).all()):
                self.doubtful.add(name)
        if self._block[-1] + 1 == self._directions:
            held.clear()


def _numbers(held: Collection[range]) -> list[int]:
    return [number for some in held for number in some]
