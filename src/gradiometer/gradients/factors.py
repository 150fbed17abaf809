"""Per-sample gradients of one parameter in factored form, and the statistics that need no more than the factors.

A backward pass yields, for every use of a parameter, the input of the operation and the gradient of its output. The
gradient of the parameter is a product of the two. A factor keeps them apart and knows the cheapest exact way to a
statistic of the product.
"""

from __future__ import annotations

import cmath
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Bytes of explicit gradients that are held at once: large enough for efficient products, small enough to stay cheap.
CHUNK = 32 * 2**20
#: Numbers whose squares are added up one after the other in their own type.
_BLOCK = 4096


@dataclass(frozen=True)
class Sides:
    """A gradient as the product of its two sides, a sum over S positions in each of G groups.

    The side of the inputs is the same for every direction that is sent back through an operation. So the inner products
    of the gradients of several directions need its Gram matrix once, and nothing of the size of the parameter.

    Attributes:
        gram: Maps a range of b samples to the Gram matrices of their inputs, (b, G, S, S).
        errors: Maps a range of b gradients to those of their outputs, (b, G, O, S). Where the factor is one of several
            labels, the samples of one label are followed by the same samples for the next.
        gram_size: Numbers that are held for one sample while its Gram matrix is made.
        error_size: Numbers in the errors of one sample.
    """

    gram: Callable[[int, int], Tensor]
    errors: Callable[[int, int], Tensor]
    gram_size: int
    error_size: int


class Factor(ABC):
    """The gradients of one parameter tensor for B samples.

    A subclass gives the explicit gradient of a range of samples; it overrides the statistics for which it has a
    cheaper closed form.

    Args:
        batch: Number of samples B.
        shape: Shape of the parameter.
    """

    #: Name of the path that yields the squared norm, for `Gradiometer.plan`.
    form = "explicit"
    #: Whether what it calls inputs are the gradients of the output, and the other way round.
    exchanged = False

    def __init__(self, batch: int, shape: torch.Size) -> None:
        self.batch = batch
        self.shape = shape

    @abstractmethod
    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients (stop - start, *shape) of a range of samples."""

    def squared_norms(self) -> Tensor:
        """Squared L2 norm of each sample's gradient, (B,)."""
        return self._reduced(sum_of_squares)

    def absolute_sums(self) -> Tensor:
        """L1 norm of each sample's gradient, (B,)."""
        return self._reduced(lambda part: part.abs().sum(1))

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner product of each sample's gradient with a reference of the parameter's shape, (B,)."""
        return self._reduced(lambda part: part @ reference.to(part.dtype).reshape(-1))

    def alignments(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products with a reference, and squared norms, (B,) each."""
        return self.inner_products(reference), self.squared_norms()

    def sides(self, directions: int) -> Sides | None:
        """The two sides of the gradient, where inner products between that many directions are cheaper from them."""
        return None

    def vanishing(self) -> Tensor:
        """Which samples have a gradient of exact zeros for certain, (B,) bool."""
        return torch.cat([(self.gradients(*bounds) == 0).flatten(1).all(1) for bounds in self.chunks()])

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of samples whose explicit gradients fit into a chunk together."""
        step = max(1, CHUNK // max(1, 4 * self.shape.numel()))
        for start in range(0, self.batch, step):
            yield start, min(start + step, self.batch)

    def _reduced(self, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        parts = [reduce(wide(self.gradients(*bounds)).reshape(bounds[1] - bounds[0], -1)) for bounds in self.chunks()]
        return torch.cat(parts)


class Dense(Factor):
    """Gradients that are small enough to be explicit from the start: biases, scales, shifts.

    Args:
        values: The gradients (B, *shape).
        form: Name of the path, for the plan.
    """

    def __init__(self, values: Tensor, form: str = "sum") -> None:
        super().__init__(len(values), values.shape[1:])
        self._values = values
        self.form = form

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients of a range of samples."""
        return self._values[start:stop]

    def chunks(self) -> Iterator[tuple[int, int]]:
        """One range: the gradients exist already."""
        yield 0, self.batch

    def _reduced(self, reduce: Callable[[Tensor], Tensor]) -> Tensor:
        return reduce(wide(self._values).reshape(self.batch, -1))


class Zero(Factor):
    """The gradients of a parameter without influence on the objective: exact zeros.

    Args:
        batch: Number of samples.
        parameter: The parameter.
    """

    form = "unused"

    def __init__(self, batch: int, parameter: Tensor) -> None:
        super().__init__(batch, parameter.shape)
        self._like = parameter

    def gradients(self, start: int, stop: int) -> Tensor:
        """Zeros (stop - start, *shape)."""
        return self._like.detach().new_zeros(stop - start, *self.shape)

    def squared_norms(self) -> Tensor:
        """Zeros (B,)."""
        return exact(torch.zeros(self.batch, device=self._like.device))

    def absolute_sums(self) -> Tensor:
        """Zeros (B,)."""
        return self.squared_norms()

    def inner_products(self, reference: Tensor) -> Tensor:
        """Zeros (B,)."""
        return self.squared_norms()


class Computed(Factor):
    """Gradients that a function computes when they are asked for.

    Args:
        batch: Number of samples.
        shape: Shape of the parameter.
        compute: Maps a range of samples to their explicit gradients.
        form: Name of the path, for the plan.
    """

    def __init__(
        self, batch: int, shape: torch.Size, compute: Callable[[int, int], Tensor], form: str = "vmap"
    ) -> None:
        super().__init__(batch, shape)
        self._compute = compute
        self.form = form

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients of a range of samples."""
        return self._compute(start, stop)


class Sum(Factor):
    """The sum of several factors: a parameter that is used more than once.

    Args:
        parts: Factors of the same parameter for the same samples.
    """

    form = "explicit sum"

    def __init__(self, parts: Sequence[Factor]) -> None:
        super().__init__(parts[0].batch, parts[0].shape)
        self._parts = parts

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients of a range of samples."""
        total = wide(self._parts[0].gradients(start, stop))
        for part in self._parts[1:]:
            total = total + part.gradients(start, stop)
        return total


def wide(tensor: Tensor) -> Tensor:
    """The tensor in at least float32, in which statistics are accumulated."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def exact(tensor: Tensor) -> Tensor:
    """The tensor in float64: on its device, or in main memory where the device has no float64 (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def all_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and nothing infinite among the numbers; a finite sum says so in a tenth of the time."""
    tensor = tensor.detach()
    return cmath.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


def sum_of_squares(tensor: Tensor) -> Tensor:
    """Sum of squares (B,) of everything that belongs to each sample (B, ...), in one pass over the memory.

    Block by block: a single norm over 25 million numbers in float32 is 0.16 % off, one over 2 million 6e-5; over blocks
    both are 5e-8 off, in the same time.
    """
    flat = tensor.flatten(1)
    if flat.shape[1] <= _BLOCK:
        alone: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return alone.square()
    whole = flat.shape[1] // _BLOCK * _BLOCK
    blocks = torch.linalg.vector_norm(flat[:, :whole].unflatten(1, (-1, _BLOCK)), dim=2)
    rest = torch.linalg.vector_norm(flat[:, whole:], dim=1)
    squares: Tensor = blocks.square().sum(1) + rest.square()
    return squares
