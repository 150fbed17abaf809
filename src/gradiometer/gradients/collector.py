"""From the gradients that a backward pass brings to statistics: those of a parameter that is used once at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gradiometer.gradients.factors import Factor
from gradiometer.gradients.failures import RuleFailure, Unsure, as_failure_of
from gradiometer.gradients.joining import through, total
from gradiometer.gradients.pair import Pair
from gradiometer.gradients.planning import Program
from gradiometer.gradients.stacked import Labels
from gradiometer.gradients.uses import Use

#: A statistic: maps the name of a parameter and its factor to a tensor whose first dimension is the samples.
Reduce = Callable[[str, Factor], Tensor]

#: Squared norms below it may have lost squares to underflow.
_SMALL = 1e-30


class Collector:
    """Turns gradients of outputs into factors, and those into statistics, so that nothing waits longer than it has to.

    Args:
        parameters: The parameters whose statistics are wanted, by name.
        program: The program of the passes.
        roots: Says from which parameters a tensor was computed.
        labels: How many labels are on their way when gradients come.
        several: Whether a statistic has a last dimension for several of them, the squared norm being the last one.

    Attributes:
        forms: How the statistics of each parameter were computed, by name, once for each use.
        doubtful: Parameters whose statistic may have left the range of float32 on the way.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        program: Program,
        roots: Callable[[Tensor], frozenset[str] | None],
        labels: Labels,
        *,
        several: bool,
    ) -> None:
        self.forms: dict[str, list[str]] = {name: [] for name in parameters}
        self.doubtful: set[str] = set()
        self._parameters, self._program, self._roots, self._several = parameters, program, roots, several
        self._labels = labels
        self._own = {id(parameter) for parameter in parameters.values()}
        self._expected: dict[str, int] = dict.fromkeys(parameters, 0)
        self._indirect: set[str] = set()
        self._reduce: Reduce | None = None
        self._last = False
        self._statistics: dict[str, Tensor] = {}
        self._pending: list[tuple[Tensor, Factor]] = []
        self._unseen: list[Tensor] = []

    def expect(self, use: Use | Pair) -> None:
        """Count on the gradient of an output, from which a use takes its factors."""
        for target, roots in use.wanted():
            if self._is_parameter(target):
                self._expected[next(iter(roots))] += 1
            else:
                self._indirect |= roots

    def start(self, reduce: Reduce, *, last: bool) -> None:
        """Begin a backward pass.

        Args:
            reduce: The statistic.
            last: Whether it is the last one through this forward pass.
        """
        self._reduce, self._last = reduce, last
        self._statistics, self._pending, self._unseen = {}, [], []

    def arrived(self, use: Use | Pair, gradient: Tensor) -> None:
        """The gradient of a step's output is there, stacked: turn it into factors, and those into statistics."""
        if self._reduce is None:
            return  # the model itself takes a gradient on its way forward
        if use.changed():
            raise RuleFailure(use.roots)  # an activation was changed in place since; autograd may still know it
        waiting = len(self._pending)
        with torch.no_grad(), as_failure_of(lambda: use.roots):
            for target, roots, factor in use.found(gradient, self._labels.count):
                self._take(target, roots, factor)
        if self._last and len(self._pending) == waiting:
            use.release()

    def _take(self, target: Tensor, roots: frozenset[str], factor: Factor) -> None:
        """Reduce the factor of a parameter that is used once at once; keep the others until all are there.

        A factor that waits may still ask for the operation that it came from.
        """
        if self._is_parameter(target):
            name = next(iter(roots))
            self.forms[name].append(factor.form)
            if self._reduce is not None and self._expected[name] == 1 and name not in self._indirect:
                self._keep(name, self._reduce(name, factor), factor)
                return
        self._pending.append((target, factor))

    def _keep(self, name: str, statistic: Tensor, factor: Factor) -> None:
        """Keep a statistic, and note where it cannot be trusted because squares over- or underflowed."""
        self._statistics[name] = statistic
        decisive = statistic[..., -1] if self._several else statistic
        if decisive.ndim > 1:
            return  # explicit gradients
        if self._program.deferred:
            self._unseen.append(decisive)
            return
        if _in_range(decisive):
            return
        if not bool((certain(decisive) | factor.vanishing().to(decisive.device)).all()):
            self.doubtful.add(name)

    def finish(self) -> dict[str, Tensor]:
        """End a backward pass.

        Returns:
            The statistic of each parameter, without those that had no influence.

        Raises:
            Unsure: A statistic may have left the range of float32; from now on each is looked at.
        """
        self._add_up()
        if self._unseen and not _in_range(torch.stack([each.to(self._unseen[0].device) for each in self._unseen])):
            self._program.deferred = False
            raise Unsure
        return self._statistics

    def _is_parameter(self, target: Tensor) -> bool:
        return id(target) in self._own

    def _add_up(self) -> None:
        """Statistics of parameters that are used more than once, or through tensors computed from them."""
        assert self._reduce is not None
        gathered: dict[str, list[Factor]] = {}
        derived: dict[int, tuple[Tensor, list[Factor]]] = {}
        for target, factor in self._pending:
            roots = self._roots(target)
            assert roots is not None
            if self._is_parameter(target):
                gathered.setdefault(next(iter(roots)), []).append(factor)
            else:
                derived.setdefault(id(target), (target, []))[1].append(factor)
        for target, factors in derived.values():
            for name in sorted(self._roots(target) or ()):
                if name not in self._program.looped:
                    gathered.setdefault(name, []).append(through(target, total(factors), self._parameters[name]))
                    self.forms[name].append("through its use")
        with torch.no_grad():
            for name, factors in gathered.items():
                with as_failure_of(functools.partial(frozenset, {name})):
                    factor = total(factors)
                    self._keep(name, self._reduce(name, factor), factor)
        self._pending = []


def certain(statistics: Tensor) -> Tensor:
    """Which of these have lost no squares to under- or overflow for certain, bool."""
    return torch.isfinite(statistics) & (statistics.abs() >= _SMALL)


def _in_range(statistics: Tensor) -> bool:
    """Whether none of these may have lost squares to under- or overflow."""
    low, high = torch.aminmax(statistics.abs())
    return bool((low >= _SMALL) & (high < torch.inf))
