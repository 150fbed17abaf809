"""One forward pass that remembers what the statistics need, and one backward pass that computes them on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import GradiometerError
from gradiometer.gradients.activations import LayerInputs, layer_input
from gradiometer.gradients.factors import Computed, Factor, Sum
from gradiometer.gradients.planning import Program, Step
from gradiometer.gradients.rules.linear import Outer
from gradiometer.gradients.tape import Operation, Tape, tensors_of
from gradiometer.gradients.uses import Use

#: A statistic: maps the name of a parameter and its factor to a tensor whose first dimension is the samples.
Reduce = Callable[[str, Factor], Tensor]

#: Squared norms below it may have lost squares to underflow.
_SMALL = 1e-30


class ProgramMismatch(Exception):
    """The forward pass took other operations than the program was made for."""


class RuleFailure(Exception):
    """The statistic of some parameters cannot be computed in the way that was planned."""

    def __init__(self, roots: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(roots)))
        self.roots = roots


class Unsure(Exception):
    """Some statistics may have left the range of float32; a pass that looks at each of them will tell."""


class Reader(Tape):
    """Runs a program: detaches parameters where they meet activations, and keeps what the factors need.

    Args:
        parameters: The parameters to watch.
        program: What to do with each operation.
        batch: Number of samples B.
        activations: Where to keep what is said of layer inputs on the way, or None.
        several: Whether a statistic has a last dimension for several of them, the squared norm being the last one.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        program: Program,
        batch: int,
        *,
        activations: LayerInputs | None = None,
        several: bool = False,
    ) -> None:
        super().__init__(parameters)
        self._parameters = parameters
        self._program = program
        self._batch = batch
        self._number = 0
        self._anchor: Tensor | None = None
        self._targets: dict[int, Tensor] = {}
        self._expected: dict[str, int] = dict.fromkeys(parameters, 0)
        self._indirect: set[str] = set()
        self._pending: list[tuple[Tensor, Factor]] = []
        self._reduce: Reduce | None = None
        self._last = False
        self._several = several
        self._in_range: list[Tensor] = []
        self.statistics: dict[str, Tensor] = {}
        #: Parameters whose statistic may have left the range of float32 on the way.
        self.doubtful: set[str] = set()
        self.forms: dict[str, list[str]] = {name: [] for name in parameters}
        self.activations = activations

    def operation(self, operation: Operation) -> Any:
        """Carry out the next step of the program."""
        if self._number >= len(self._program.steps):
            return self._unplanned(operation)
        step = self._program.steps[self._number]
        if step.name != operation.name:
            return self._unplanned(operation)
        if step.kind == "use":
            self._number += 1
            return self._use(operation, step)
        result = operation.run()
        produced = operation.leaves[0] if result is None and operation.in_place else result
        if not any(tensor.is_floating_point() for tensor in tensors_of(produced)):
            return result
        self._number += 1
        if step.kind == "weights":
            self.mark_weights(result, operation)
        return result

    def backward(self, outputs: Tensor, seeds: Tensor, reduce: Reduce, *, last: bool) -> dict[str, Tensor]:
        """Backpropagate one seed and compute the statistic of every watched parameter.

        Args:
            outputs: The selected outputs of the model.
            seeds: Gradients of the objective with respect to them, same shape.
            reduce: The statistic.
            last: Whether this was the last backward pass through this forward pass.

        Returns:
            The statistic by name, without parameters that are left to the loop or have no influence.
        """
        self.statistics, self._pending, self._reduce, self._last = {}, [], reduce, last
        if outputs.requires_grad and self._anchor is not None:
            torch.autograd.grad(outputs, self._anchor, seeds, retain_graph=not last, allow_unused=True)
        self._finish()
        if self._in_range and not bool(torch.stack([each.to(outputs.device) for each in self._in_range]).all()):
            self._program.deferred = False
            raise Unsure
        return self.statistics

    def strays(self, outputs: Tensor) -> set[str]:
        """Names of watched parameters whose gradient does not pass through a step of the program."""
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        found: set[str] = set()
        open_nodes, visited = [outputs.grad_fn], set()
        while open_nodes:
            node = open_nodes.pop()
            if node is None or node in visited:
                continue
            visited.add(node)
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in names:
                found.add(names[id(variable)])
            open_nodes += [following for following, _ in node.next_functions]
        return found

    def _unplanned(self, operation: Operation) -> Any:
        result = operation.run()
        if any(tensor.is_floating_point() for tensor in tensors_of(result)):
            raise ProgramMismatch(operation.name)
        return result

    def _use(self, operation: Operation, step: Step) -> Tensor | None:
        """Run an operation on detached parameters, and arrange for its backward part."""
        targets = {at: operation.leaves[at] for at in operation.roots}
        weights = {at: target.detach() for at, target in targets.items()}
        if self._program.channels_last and operation.function is torch.conv2d:
            _arrange(operation.leaves, weights)
        activations = {at: operation.leaves[at].detach() for at in step.layouts}
        if operation.in_place and 0 in activations:
            activations[0] = activations[0].clone()
        for at, tensor in activations.items():
            if not step.layouts[at].fits(tensor, self._batch):
                raise ProgramMismatch(operation.name)
        wanted = {at for at, roots in operation.roots.items() if not roots <= self._program.looped}
        result = operation.run(weights)
        output: Tensor = operation.leaves[0] if result is None else result
        layer = None if self.activations is None else layer_input(operation)
        if self.activations is not None and layer is not None and layer[1] in activations:
            name, at = layer
            self.activations.take(operation, name, step.layouts[at].split(activations[at], self._batch))
        versions = {at: tensor._version for at, tensor in activations.items()}
        use = Use(operation, step, self._batch, weights, activations, versions)
        for at in wanted:
            self._note_target(targets[at], operation.roots[at])
        if wanted:
            output = self._anchored(output)
            output.register_hook(lambda gradient: self._arrived(use, targets, wanted, gradient))
        return result if result is None else output

    def _note_target(self, target: Tensor, roots: frozenset[str]) -> None:
        if id(target) in self._names:
            self._expected[next(iter(roots))] += 1
        else:
            self._indirect |= roots

    def _anchored(self, output: Tensor) -> Tensor:
        """Make an output require gradients without a copy, so that the backward pass reaches it."""
        if output.requires_grad:
            return output
        if self._anchor is None:
            self._anchor = torch.zeros((), device=output.device, requires_grad=True)
        anchored: Tensor = _Anchor.apply(output, self._anchor)
        return anchored

    def _arrived(self, use: Use, targets: dict[int, Tensor], wanted: set[int], gradient: Tensor) -> None:
        """The gradient of a step's output is there: turn it into factors, and those into statistics."""
        if self._reduce is None:
            return  # the model itself takes a gradient on its way forward
        roots = frozenset().union(*(use.operation.roots[at] for at in wanted))
        if use.changed():
            raise RuleFailure(roots)  # an activation was changed in place since; autograd may still know it
        waiting = len(self._pending)
        with torch.no_grad(), _as_failure_of(roots):
            for at, factor in use.factors(wanted, gradient).items():
                self._take(targets[at], use.operation.roots[at], factor)
        if self._last and len(self._pending) == waiting:
            use.release()

    def _take(self, target: Tensor, roots: frozenset[str], factor: Factor) -> None:
        """Reduce the factor of a parameter that is used once at once; keep the others until all are there.

        A factor that waits may still ask for the operation that it came from.
        """
        name = next(iter(roots))
        if len(roots) == 1 and target is self._parameters[name]:
            self.forms[name].append(factor.form)
            if self._reduce is not None and self._expected[name] == 1 and name not in self._indirect:
                self._keep(name, self._reduce(name, factor), factor)
                return
        self._pending.append((target, factor))

    def _keep(self, name: str, statistic: Tensor, factor: Factor) -> None:
        """Keep a statistic, and note where it cannot be trusted because squares over- or underflowed."""
        self.statistics[name] = statistic
        decisive = statistic[..., -1] if self._several else statistic
        if decisive.ndim > 1:
            return  # explicit gradients
        low, high = torch.aminmax(decisive.abs())
        if self._program.deferred:
            self._in_range.append((low >= _SMALL) & (high < torch.inf))
            return
        if float(low) >= _SMALL and float(high) < torch.inf:
            return
        certain = torch.isfinite(decisive) & (decisive.abs() >= _SMALL)
        if not bool((certain | factor.vanishing().to(certain.device)).all()):
            self.doubtful.add(name)

    def _finish(self) -> None:
        """Statistics of parameters that are used more than once, or through tensors computed from them."""
        assert self._reduce is not None
        gathered: dict[str, list[Factor]] = {}
        derived: dict[int, tuple[Tensor, list[Factor]]] = {}
        for target, factor in self._pending:
            roots = self.roots(target)
            assert roots is not None
            if id(target) in self._names:
                gathered.setdefault(next(iter(roots)), []).append(factor)
            else:
                derived.setdefault(id(target), (target, []))[1].append(factor)
        for target, factors in derived.values():
            for name in sorted(self.roots(target) or ()):
                if name not in self._program.looped:
                    gathered.setdefault(name, []).append(_through(target, _total(factors), self._parameters[name]))
                    self.forms[name].append("through its use")
        with torch.no_grad():
            for name, factors in gathered.items():
                with _as_failure_of(frozenset({name})):
                    factor = _total(factors)
                    self._keep(name, self._reduce(name, factor), factor)
        self._pending = []


@contextmanager
def _as_failure_of(roots: frozenset[str]) -> Iterator[None]:
    """Report whatever a rule or a statistic raises as a failure of these parameters, which the loop can still read."""
    try:
        yield
    except GradiometerError:
        raise
    except Exception as error:
        raise RuleFailure(roots) from error


def _arrange(leaves: list[Any], weights: dict[int, Tensor]) -> None:
    """Bring image and weight of a convolution into the memory format in which its channels are the fastest dimension.

    A weight that is larger than the image stays as it is: it would take longer than it saves, and be held until the
    backward pass.
    """
    image = leaves[0]
    if not isinstance(image, Tensor) or image.ndim != 4 or 0 in weights:
        return
    leaves[0] = image.contiguous(memory_format=torch.channels_last)
    if 1 in weights and weights[1].numel() <= image.numel():
        weights[1] = weights[1].contiguous(memory_format=torch.channels_last)


class _Anchor(torch.autograd.Function):
    """Give an output a history that leads to a scalar, so that autograd walks back to it."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        """Return the output itself."""
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, None]:
        """Nothing lies behind."""
        return None, None


def _through(target: Tensor, factor: Factor, parameter: Tensor) -> Factor:
    """The gradient of a parameter from that of a tensor that was computed from it."""

    def compute(start: int, stop: int) -> Tensor:
        inner = factor.gradients(start, stop).to(target.dtype)
        with torch.enable_grad():
            (gradients,) = torch.autograd.grad(
                target, parameter, inner, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        none: bool = gradients is None
        return parameter.new_zeros(stop - start, *parameter.shape) if none else gradients

    return Computed(factor.batch, parameter.shape, compute, "through its use")


def _total(factors: list[Factor]) -> Factor:
    if len(factors) == 1:
        return factors[0]
    outers = [factor for factor in factors if isinstance(factor, Outer)]
    if len(outers) == len(factors) and len({outer.transposed for outer in outers}) == 1:
        return Outer.joined(outers)
    return Sum(factors)
