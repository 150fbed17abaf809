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


def products(rows: Sequence[Factor], columns: Sequence[Factor] | None = None) -> Tensor:
    """Inner products of the gradients of one parameter.

    Args:
        rows: Factors of R directions, for the same B samples.
        columns: Factors of Q directions; the same as the rows when absent.

    Returns:
        float64 (B, R, Q).
    """
    every = [*rows, *(columns or ())]
    sides = [_sides(factor, len(every)) for factor in every]
    apart = [found for found in sides if found is not None]
    by_sides = len(apart) == len(every)
    if by_sides:
        size = apart[0].gram_size + 3 * sum(found.error_size for found in apart)
    else:
        size = 2 * len(every) * rows[0].shape.numel()
    step = max(1, CHUNK // (4 * size))
    parts = []
    for start in range(0, rows[0].batch, step):
        bounds = start, min(start + step, rows[0].batch)
        left, right = _by_sides(apart, *bounds) if by_sides else _explicit(every, *bounds)
        across = right if columns is None else right[:, len(rows) :]
        parts.append(exact(left[:, : len(rows)] @ across.mT))
    return torch.cat(parts)


def _by_sides(sides: Sequence[Sides], start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Two tensors (b, R, *) whose products are the inner products: errors, and errors times the Gram matrix."""
    errors = torch.stack([found.errors(start, stop) for found in sides], 2)
    spread = errors.flatten(2, 3) @ sides[0].gram(start, stop)
    return errors.transpose(1, 2).flatten(2), spread.view_as(errors).transpose(1, 2).flatten(2)


def _explicit(factors: Sequence[Factor], start: int, stop: int) -> tuple[Tensor, Tensor]:
    gradients = torch.stack([wide(factor.gradients(start, stop)).reshape(stop - start, -1) for factor in factors], 1)
    return gradients, gradients


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

    Each direction of the block is kept; each later one meets the block and is forgotten.

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
        self.values = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in parameters}
        self.doubtful: set[str] = set()
        self._directions = directions
        self._held: dict[str, dict[int, Factor]] = {}
        self._met: set[str] = set()
        self._block = range(0)
        self._now = 0

    def open(self, block: range) -> None:
        """Start the block of these directions."""
        self._block, self._held, self._met = block, {}, set()

    def turn(self, direction: int) -> None:
        """Say which direction is sent back next."""
        self._now = direction

    def take(self, name: str, factor: Factor) -> Tensor:
        """A statistic for `Reader.backward`: takes a factor of the direction whose turn it is, and returns nothing."""
        held = self._held.setdefault(name, {})
        if self._now in self._block:
            held[self._now] = kept(factor, len(self._block))
            if self._now == self._block[-1]:
                self._meet(name)
        elif held:
            found = products(list(held.values()), [factor])
            self.values[name][:, list(held), self._now] = found[..., 0]
            self.values[name][:, self._now, list(held)] = found[..., 0]
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
        numbers = list(held)
        found = products(list(held.values()))
        for row, number in enumerate(numbers):
            self.values[name][:, number, numbers] = found[:, row]
        own = found.diagonal(dim1=1, dim2=2)
        certain = torch.isfinite(own) & (own >= _SMALL)
        if not bool(certain.all()):
            zeros = torch.stack([factor.vanishing() for factor in held.values()], 1).to(certain.device)
            if not bool((certain | zeros).all()):
                self.doubtful.add(name)
        if self._block[-1] + 1 == self._directions:
            held.clear()
