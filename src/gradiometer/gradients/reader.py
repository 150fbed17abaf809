"""One forward pass that remembers what the statistics need, and one backward pass that computes them on the way."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients.activations import LayerInputs, layer_input
from gradiometer.gradients.collector import Collector, Reduce
from gradiometer.gradients.failures import ProgramMismatch
from gradiometer.gradients.folding import (
    RECTIFIERS,
    SUMS,
    Affine,
    Convolved,
    affine,
    in_tiles,
    overwrites,
    padded_by_numbers,
    spread,
)
from gradiometer.gradients.pair import Pair
from gradiometer.gradients.planning import Program, Step
from gradiometer.gradients.stacked import Labels, send_back
from gradiometer.gradients.tape import MARK, Operation, Tape, describes, roots_of, tensors_of
from gradiometer.gradients.uses import Use

#: What a tensor was computed from that stands in for a result that is still to come.
_NOT_YET = frozenset({""})
#: The attribute of an output that nothing but a rectifier reads: whom to tell when it is overwritten.
_RECTIFIED = "_gradiometer_rectified"
#: The attribute of an output whose values are gone.
_OVERWRITTEN = "_gradiometer_overwritten"


class Reader(Tape):
    """Runs a program: detaches parameters where they meet activations, and keeps what the factors need.

    Args:
        parameters: The parameters to watch.
        program: What to do with each operation.
        batch: Number of samples B.
        activations: Where to keep what is said of layer inputs on the way, or None.
        several: Whether a statistic has a last dimension for several of them, the squared norm being the last one.
        folds: Whether batch norms are folded where the program has found that they can be.
        stacks: Whether several labels are to be sent back at once, so that the way back should be one that can be
            vectorised.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        program: Program,
        batch: int,
        *,
        activations: LayerInputs | None = None,
        several: bool = False,
        folds: bool = False,
        stacks: bool = False,
    ) -> None:
        super().__init__(parameters)
        self._parameters = parameters
        self._program = program
        self._batch = batch
        self._number = 0
        self._sums = 0
        self._anchor: Tensor | None = None
        self._deferring = False
        self._deferred: tuple[Operation, Step, Tensor] | None = None
        self._folds, self._stacks = folds, stacks
        self._labels = Labels()
        self.activations = activations
        #: What becomes of the gradients. It knows the names, not the reader: a circle would live on after the reading.
        roots = functools.partial(roots_of, self.names)
        self.collector = Collector(parameters, program, roots, self._labels, several=several)

    def plain(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation without parameters, which must not read what is not there yet."""
        if not self._folds or describes(function):
            return function(*args, **kwargs)
        tell: Callable[[], None] | None = None
        for tensor in tensors_of([*args, *kwargs.values()]):
            if self.roots(tensor) == _NOT_YET or hasattr(tensor, _OVERWRITTEN):
                raise ProgramMismatch(getattr(function, "__name__", ""))
            tell = tensor.__dict__.pop(_RECTIFIED, tell)
        if function in SUMS:
            return self._sum(function(*args, **kwargs))
        if tell is None or function not in RECTIFIERS or not isinstance(args[0], Tensor):
            return function(*args, **kwargs)
        # Where the output is below zero, its gradient is zero, so that the rectified output says as much.
        rectified = torch.relu_(args[0])
        tell()
        if overwrites(function, args, kwargs):
            return rectified
        # For the model it is another tensor, so that whoever reads the old one after all is noticed.
        self.note(rectified, _OVERWRITTEN, True)
        return rectified.view_as(rectified)

    def operation(self, operation: Operation) -> Any:
        """Carry out the next step of the program."""
        if self._deferring and _NOT_YET in operation.roots.values():
            return operation.run() if describes(operation.function) else self._fold(operation)
        if any(hasattr(tensor, _OVERWRITTEN) for _, tensor in operation.others()):
            raise ProgramMismatch(operation.name)
        step = self._next(operation)
        if step is None:
            return self._unplanned(operation)
        if step.kind == "use":
            self._number += 1
            return self._use(operation, step) if self._runs(operation, step) else self._defer(operation, step)
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
        self.collector.start(reduce, last=last)
        if outputs.requires_grad and self._anchor is not None:
            torch.autograd.grad(outputs, self._anchor, seeds, retain_graph=not last, allow_unused=True)
        return self.collector.finish()

    def stacked(self, outputs: Tensor, seeds: Tensor, reduce: Reduce) -> list[dict[str, Tensor]]:
        """The same for several seeds (L, B, ...) at once, for each of them, by a program that is `stackable`."""
        self.collector.start(reduce, last=False)
        with self._labels.of(len(seeds)):
            if outputs.requires_grad and self._anchor is not None:
                send_back(outputs, self._anchor, seeds)
            found = self.collector.finish()
        parts = {name: statistic.unflatten(0, (len(seeds), -1)) for name, statistic in found.items()}
        return [{name: part[label] for name, part in parts.items()} for label in range(len(seeds))]

    def returned(self, raw: Any) -> Any:
        """What the model returned, which has to be what it would be without this watch.

        Raises:
            ProgramMismatch: It holds a tensor that was overwritten.
        """
        if any(hasattr(tensor, _OVERWRITTEN) for tensor in tensors_of(raw)):
            raise ProgramMismatch("the result of the model")
        return raw

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

    def _sum(self, result: Tensor) -> Tensor:
        """The result of an addition without parameters."""
        if self._sums in self._program.sums:
            self.note(result, _RECTIFIED, _nobody)
        self._sums += 1
        return result

    def _unplanned(self, operation: Operation) -> Any:
        result = operation.run()
        if any(tensor.is_floating_point() for tensor in tensors_of(result)):
            raise ProgramMismatch(operation.name)
        return result

    def _next(self, operation: Operation) -> Step | None:
        """The step that is next, if it is for this operation."""
        step = self._program.steps[self._number] if self._number < len(self._program.steps) else None
        return step if step is not None and step.name == operation.name else None

    def _use(self, operation: Operation, step: Step) -> Tensor | None:
        """Run an operation on detached parameters, and arrange for its backward part."""
        use = self._prepared(operation, step)
        result = self._convolved(operation, use) if self._in_tiles(operation) else operation.run(use.weights)
        output: Tensor = operation.leaves[0] if result is None else result
        if use.targets:
            output = self._watched(output, use)
            if step.rectified and self._folds:
                self.note(output, _RECTIFIED, _nobody)
        return result if result is None else output

    def _prepared(self, operation: Operation, step: Step) -> Use:
        """Take hold of what the backward part of an operation needs, before it runs."""
        wanted = self._wanted(operation)
        weights = {at: operation.leaves[at].detach() for at in operation.roots}
        if self._program.channels_last and operation.function is torch.conv2d:
            _arrange(operation.leaves, weights)
        activations = {at: operation.leaves[at].detach() for at in step.layouts}
        if operation.in_place and 0 in activations:
            activations[0] = activations[0].clone()
        for at, tensor in activations.items():
            if not step.layouts[at].fits(tensor, self._batch):
                raise ProgramMismatch(operation.name)
        layer = None if self.activations is None else layer_input(operation)
        if self.activations is not None and layer is not None and layer[1] in activations:
            name, at = layer
            self.activations.take(operation, name, step.layouts[at].split(activations[at], self._batch))
        versions = {at: tensor._version for at, tensor in activations.items()}
        return Use(operation, step, self._batch, weights, activations, versions, wanted)

    def _wanted(self, operation: Operation) -> dict[int, Tensor]:
        """The weights of an operation whose statistics are wanted, by position."""
        return {at: operation.leaves[at] for at, roots in operation.roots.items() if not roots <= self._program.looped}

    def _watched(self, output: Tensor, use: Use | Pair) -> Tensor:
        """Wait for the gradient of an output, from which a use takes its factors."""
        self.collector.expect(use)
        output = self._anchored(output)

        def arrived(gradient: Tensor) -> None:
            self._labels.met(gradient, lambda errors: self.collector.arrived(use, errors))

        output.register_hook(arrived)
        return output

    def _runs(self, operation: Operation, step: Step) -> bool:
        """Whether an operation is run at once, and not together with the batch norm behind it."""
        if step.slice is None or not self._folds:
            return True
        following = self._program.steps[self._number]
        return len(step.layouts) != 1 or following.kind != "use"

    def _defer(self, operation: Operation, step: Step) -> Tensor:
        """Put off a convolution until the batch norm comes that it is run together with.

        Returns:
            A stand-in of the right kind, whose values nobody may read.
        """
        assert step.slice is not None
        (image,) = (operation.leaves[at] for at in step.layouts)
        stand_in: Tensor = image.new_full((), torch.nan).expand(len(image), *step.slice)
        self.note(stand_in, MARK, _NOT_YET)
        self._deferring, self._deferred = True, (operation, step, stand_in)
        return stand_in

    def _fold(self, norm: Operation) -> Tensor | None:
        """Run a batch norm and the convolution before it as one convolution."""
        at = [place for place, roots in norm.roots.items() if roots == _NOT_YET]
        step, deferred, self._deferred = self._next(norm), self._deferred, None
        if step is None or deferred is None or len(at) != 1 or norm.leaves[at[0]] is not deferred[2]:
            raise ProgramMismatch(norm.name)
        self._number += 1
        del norm.roots[at[0]]
        operation, planned, _ = deferred
        change = affine(operation, norm)
        if change is None:
            norm.leaves[at[0]] = self._use(operation, planned)
            return self._use(norm, step)
        convolution = self._prepared(operation, planned)
        convolution.scale = change.scale
        output = self._anchored(self._convolved(operation, convolution, change))
        kept = output.detach()
        activations = {at[0]: kept.clone() if step.overwritten and not step.rectified else kept}
        versions = {place: tensor._version for place, tensor in activations.items()}
        pair = Pair(convolution, Use(norm, step, self._batch, {}, activations, versions, self._wanted(norm)), change)
        if not (pair.norm.targets or convolution.targets):
            return output
        output = self._watched(output, pair)
        if step.rectified:
            self.note(output, _RECTIFIED, pair.overwritten)
        return output

    def _in_tiles(self, operation: Operation) -> bool:
        """Whether the gradient of an image is wanted that is found faster than natively."""
        if not self._folds or operation.function is not torch.conv2d:
            return False
        at = operation.positions
        wanted = at["weight"] in operation.roots and operation.leaves[at["input"]].requires_grad
        return bool(wanted) and padded_by_numbers(operation) and (self._stacks or in_tiles(operation))

    def _convolved(self, operation: Operation, use: Use, change: Affine | None = None) -> Tensor:
        """Run a convolution, and the batch norm behind it if there is one."""
        image, weight = operation.leaves[operation.positions["input"]], use.weights[operation.positions["weight"]]
        output: Tensor = Convolved.apply(
            image, lambda: operation.run(use.weights), weight, change, spread(operation), self._labels
        )
        return output

    def _anchored(self, output: Tensor) -> Tensor:
        """Make an output require gradients without a copy, so that the backward pass reaches it."""
        if output.requires_grad:
            return output
        if self._anchor is None:
            self._anchor = torch.zeros((), device=output.device, requires_grad=True)
        anchored: Tensor = _Anchor.apply(output, self._anchor)
        return anchored


def _nobody() -> None:
    """Nobody has to know that an output was overwritten: it is no activation of any use."""


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
