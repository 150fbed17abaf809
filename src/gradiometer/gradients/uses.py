"""One operation where parameters meet activations: from the gradient of its output to factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gradiometer.gradients.factors import Factor
from gradiometer.gradients.planning import Step
from gradiometer.gradients.rules.anything import any_operation
from gradiometer.gradients.rules.registry import Call, find_rule
from gradiometer.gradients.stacked import again
from gradiometer.gradients.tape import Operation


@dataclass
class Use:
    """A step of the forward pass whose backward part is still to come.

    Attributes:
        operation: The call.
        step: What the program says about it.
        batch: Number of samples B.
        weights: The parameters among its arguments, detached, by position.
        activations: The arguments that depend on the batch, by position, as they were before the call.
        versions: How often each of those had been changed in place at the time of the call.
        targets: The weights whose gradients are wanted, as the model knows them, by position.
        scale: See `Call.scale`.
    """

    operation: Operation
    step: Step
    batch: int
    weights: dict[int, Tensor]
    activations: dict[int, Tensor]
    versions: dict[int, int]
    targets: dict[int, Tensor]
    scale: Tensor | None = field(default=None, kw_only=True)

    @property
    def roots(self) -> frozenset[str]:
        """Names of the parameters whose statistics it yields."""
        return frozenset().union(*(self.operation.roots[at] for at in self.targets))

    def wanted(self) -> Iterator[tuple[Tensor, frozenset[str]]]:
        """The weights whose gradients are wanted, with the names of the parameters that each was computed from."""
        for at, target in self.targets.items():
            yield target, self.operation.roots[at]

    def found(self, gradient: Tensor, labels: int) -> Iterator[tuple[Tensor, frozenset[str], Factor]]:
        """The same with their factors, from the gradient of the output; see `factors`."""
        for at, factor in self.factors(gradient, labels).items():
            yield self.targets[at], self.operation.roots[at], factor

    def factors(self, gradient: Tensor, labels: int) -> dict[int, Factor]:
        """Factors of the wanted weights, by position.

        They come from the layer rule of the operation, or from its vector-Jacobian product if it has none.

        Args:
            gradient: Gradient of the output, as autograd gives it, or stacked for L labels.
            labels: Their number L. The factors have L B samples.
        """
        wanted = set(self.targets)
        errors = self.step.output.split(gradient, labels * self.batch)
        found = None if self.operation.in_place else self._by_rule(wanted, errors, labels)
        return self._by_product(sorted(wanted), errors, labels) if found is None else found

    def changed(self) -> bool:
        """Whether an activation was changed in place since the call."""
        return any(tensor._version != self.versions[at] for at, tensor in self.activations.items())

    def release(self) -> None:
        """Let go of the activations: nothing will be asked again."""
        self.activations, self.operation.leaves = {}, []

    def _by_rule(self, wanted: set[int], errors: Tensor, labels: int) -> dict[int, Factor] | None:
        entry = find_rule(self.operation.function)
        if entry is None:
            return None
        positions = self.operation.positions
        if entry.shares:
            labels = 1
        call = Call(
            self.operation.function,
            {name: self._value(place, labels) for name, place in self.operation.named.items()},
            frozenset(name for name, place in positions.items() if place in wanted),
            {name: self.step.layouts[place] for name, place in positions.items() if place in self.step.layouts},
            labels * self.batch,
            self.scale,
        )
        if len(call.wanted) < len(wanted):
            return None
        found = entry.rule(call, errors)
        return None if found is None else {positions[name]: factor for name, factor in found.items()}

    def _by_product(self, wanted: Sequence[int], errors: Tensor, labels: int) -> dict[int, Factor]:
        operation, batched = self.operation, sorted(self.activations)
        samples = [again(self.step.layouts[at].split(self.activations[at], self.batch), labels) for at in batched]

        def function(*values: Tensor) -> Tensor:
            replaced: dict[int, Any] = {**self.weights, **dict(zip([*wanted, *batched], values, strict=True))}
            if operation.in_place:
                replaced[0] = replaced[0].clone()
            result = operation.run(replaced)
            output: Tensor = replaced[0] if result is None else result
            return output

        factors = any_operation(function, [self.weights[at] for at in wanted], samples, errors)
        return dict(zip(wanted, factors, strict=True))

    def _value(self, place: Any, labels: int) -> Any:
        """The value of an argument: parameters detached, activations as they were, for each label."""
        if isinstance(place, int):
            if place in self.activations:
                return again(self.activations[place], labels)
            return self.weights.get(place, self.operation.leaves[place])
        if isinstance(place, list | tuple):
            return type(place)(self._value(item, labels) for item in place)
        return place
