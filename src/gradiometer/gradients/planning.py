"""Find out, once for each shape of input, how every statistic is to be computed.

Three samples are run through the model a few times. From what changes when a sample changes, and when there is one
more sample, follows where the batch lies in every activation. Nothing here is believed before `plan` has compared the
statistics of the three with those of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradiometer.errors import ModelError
from gradiometer.gradients.factors import all_finite
from gradiometer.gradients.folding import FORGETFUL, SUMS, Readers, foldable
from gradiometer.gradients.layout import Layout, find_layout, same_values
from gradiometer.gradients.samples import channels_last, join, swap_first, take
from gradiometer.gradients.state import modules_of
from gradiometer.gradients.tape import Operation, Tape, describes, tensors_of

#: Samples in a probing batch. Not one (every layout fits) and not two (a common size of other dimensions).
SAMPLES = 3

#: Numbers in the weights of convolutions, for each in an image, up to which another memory format of the images is
#: worth it: each pass brings the weights into that format too.
_REARRANGED = 1024

_DATA = "_gradiometer_data"

Kind = Literal["weights", "use", "loop"]


@dataclass
class Step:
    """What to do with one operation of the forward pass.

    Attributes:
        name: The operation's name, to recognise it.
        kind: `weights` (computed from parameters alone), `use` (parameters meet activations), or `loop`.
        layouts: For a use, the layout of each argument that depends on the batch, by position.
        output: For a use, the layout of its result.
        slice: For a convolution whose only reader is the batch norm of the next step: the shape of its result behind
            the batch dimension.
        overwritten: Whether the result is changed in place later.
        rectified: Whether nothing but a rectifier reads the result.
    """

    name: str
    kind: Kind
    layouts: dict[int, Layout] = field(default_factory=dict)
    output: Layout = field(default_factory=Layout)
    slice: torch.Size | None = None
    overwritten: bool = False
    rectified: bool = False


@dataclass
class Program:
    """The operations with parameters of one forward pass, in order.

    Attributes:
        steps: What to do with each.
        looped: The parameters left to the loop.
        channels_last: Whether images pass through the model with channels as the fastest dimension in memory.
        folds: Whether batch norms are folded into the convolutions before them, and rectifiers overwrite their input.
        deferred: Whether it is looked at once, at the end of a pass, if statistics may have left the range of float32:
            to look at each takes time, and would make the processor wait for another device.
        stacks: Whether several labels can be sent back at once; None until it has been tried.
        kernels: Numbers in the weights of all convolutions of the model.
        apart: The objective that was last seen to keep samples apart.
        sums: Numbers, in the order of the pass, of the additions without parameters that nothing but a rectifier reads.
    """

    steps: list[Step]
    looped: set[str] = field(default_factory=set)
    channels_last: bool = False
    folds: bool = False
    deferred: bool = False
    stacks: bool | None = None
    kernels: int = 0
    sums: frozenset[int] = frozenset()
    apart: object = None

    @property
    def stackable(self) -> bool:
        """Whether several labels can be sent back at once, as far as is known: samples lie one behind the other."""
        uses = (step for step in self.steps if step.kind == "use")
        return self.stacks is not False and all({*each.layouts.values(), each.output} == {Layout()} for each in uses)

    def at_once(self, room: int, batch: int) -> int:
        """How many labels of so many samples may be sent back at once, with room for so many samples of all labels."""
        return max(1, room // batch) if self.stackable else 1

    def arranged(self, x: Any) -> Any:
        """The inputs of the model in the memory format in which it is run."""
        return channels_last(x, self.kernels // _REARRANGED) if self.channels_last else x


@dataclass
class _Seen:
    """One operation as seen by a probe: copies of its activations and of its result."""

    operation: Operation
    mixed: bool
    others: dict[int, Tensor]
    result: Any
    results: list[Tensor]
    version: int


class Probe(Tape):
    """Records what passes through every operation with parameters.

    Args:
        parameters: The parameters to watch.
        data: The inputs of the model.
        batched: Numbers of operations whose result depends on the batch although no argument was seen to: their
            activations were made up from the batch size alone, such as the zeros that start a recurrent layer.
    """

    def __init__(self, parameters: Mapping[str, Tensor], data: Any, batched: set[int]) -> None:
        super().__init__(parameters)
        self.seen: list[_Seen] = []
        self.readers = Readers()
        self.sums: list[Tensor] = []
        self._batched = batched
        for tensor in tensors_of(data):
            self.note(tensor, _DATA, True)

    def plain(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow the data."""
        result = function(*args, **kwargs)
        if not describes(function):
            self.readers.note(function, tensors_of([*args, *kwargs.values()]), result)
        if function in SUMS:
            self.readers.forget([result])
            self.sums.append(result)
        if any(map(_is_data, tensors_of([*args, *kwargs.values()]))):
            for tensor in tensors_of(result):
                self.note(tensor, _DATA, True)
        return result

    def operation(self, operation: Operation) -> Any:
        """Record an operation with parameters."""
        others = dict(operation.others())
        self.readers.note(operation.function, others.values())
        mixed = any(map(_is_data, others.values())) or len(self.seen) in self._batched
        copies = {at: tensor.detach().clone() for at, tensor in others.items()}
        result = operation.run()
        produced = operation.leaves[0] if result is None and operation.in_place else result
        results = [tensor for tensor in tensors_of(produced) if tensor.is_floating_point()]
        if not results:
            return result
        self.readers.forget(results)
        held = [tensor.detach().clone() for tensor in results]
        self.seen.append(_Seen(operation, mixed, copies, result, held, results[0]._version))
        if mixed:
            for tensor in results:
                self.note(tensor, _DATA, True)
        else:
            self.mark_weights(result, operation)
        return result


def probe(parameters: Mapping[str, Tensor], run: Callable[[Any], Any], samples: Any) -> tuple[Program, Any]:
    """Find the layouts of a forward pass.

    Args:
        parameters: The parameters to watch, requiring gradients.
        run: The model's forward pass.
        samples: `SAMPLES` samples.

    Returns:
        The program, not yet checked against the loop, and what the model returned for the samples. If the operations
        of the forward pass differ from one run to the next, everything is left to the loop.
    """
    changed, larger = swap_first(samples), join(samples, take(samples, 0, 1))
    batched: set[int] = set()
    while True:
        watchers, outputs = [], []
        for data in (samples, changed, larger):
            watcher = Probe(parameters, data, batched)
            with closing(watcher), watcher:
                outputs.append(run(data))
            watcher.readers.note(run, tensors_of(outputs[-1]))
            watchers.append(watcher)
        passes = [watcher.seen for watcher in watchers]
        if len({tuple(seen.operation.name for seen in watched) for watched in passes}) > 1:
            return Program([], set(parameters)), outputs[0]
        grown = [
            number
            for number, (first, _, more) in enumerate(zip(*passes, strict=True))
            if not first.mixed and _grows(first, more)
        ]
        if not grown:
            break
        batched.add(grown[0])  # one at a time: what follows it is numbered anew
    steps = [_step(*seen) for seen in zip(*passes, strict=True)]
    first = watchers[0]
    _find_folds(steps, first.seen, first.readers)
    rectified = frozenset(number for number, total in enumerate(first.sums) if first.readers.only_rectified(total))
    return Program(steps, sums=rectified), outputs[0]


def _find_folds(steps: Sequence[Step], watched: Sequence[_Seen], readers: Readers) -> None:
    """Mark convolutions whose result nothing reads but the batch norm behind them, and what nothing but a rectifier."""
    for step, following, seen, norm in zip(steps, steps[1:], watched, watched[1:], strict=False):
        alone = step.kind == following.kind == "use" and readers.only_one(seen.result)
        if alone and step.output == following.output and foldable(seen.operation, norm.operation, seen.result):
            step.slice = seen.result.shape[1:]
    for step, seen in zip(steps, watched, strict=True):
        if step.kind == "use" and seen.operation.function in FORGETFUL:
            step.rectified = readers.only_rectified(seen.result)


def _step(first: _Seen, changed: _Seen, larger: _Seen) -> Step:
    """Classify one operation from the three runs."""
    name = first.operation.name
    if not first.mixed:
        return Step(name, "weights")
    single = len(first.results) == 1 and not isinstance(first.result, list | tuple)
    if not single or (first.operation.in_place and 0 in first.operation.roots):
        return Step(name, "loop")
    layouts: dict[int, Layout] = {}
    for at, tensor in first.others.items():
        other, more = changed.others[at], larger.others[at]
        if same_values(tensor, other) and tensor.shape == more.shape:
            continue  # a constant
        layout = find_layout(tensor, other, more, SAMPLES)
        if layout is None:
            return Step(name, "loop")
        layouts[at] = layout
    output = find_layout(first.results[0], changed.results[0], larger.results[0], SAMPLES)
    if output is None:
        return Step(name, "loop")
    overwritten = first.result is not None and first.result._version != first.version
    return Step(name, "use", layouts, output, overwritten=overwritten)


def _grows(first: _Seen, larger: _Seen) -> bool:
    """Whether a result has more entries for more samples although none of the weights has."""
    weights = ((first.operation.leaves[at], larger.operation.leaves[at]) for at in first.operation.roots)
    return all(one.shape == more.shape for one, more in weights) and any(
        one.shape != more.shape for one, more in zip(first.results, larger.results, strict=True)
    )


def _is_data(tensor: Tensor) -> bool:
    return hasattr(tensor, _DATA)


def check_mode(model: nn.Module) -> None:
    """Refuse layers whose train mode makes the samples of a batch depend on each other, or on chance.

    Raises:
        ModelError: If a batch norm or dropout layer is in train mode.
    """
    for module in modules_of(model):
        batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        dropout = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and (batch_norm or dropout):
            why = "its outputs mix the samples of a batch" if batch_norm else "its outputs are random"
            raise ModelError(
                f"{_called(module, model)} is in train mode: {why}, so there is no gradient of one sample; "
                "call model.eval() first"
            )
        if batch_norm and module.running_mean is None:
            raise ModelError(
                f"{_called(module, model)} has no running statistics: it mixes the samples of a batch also in "
                "evaluation mode; build it with track_running_stats=True"
            )


def _called(module: nn.Module, model: nn.Module) -> str:
    name = next(name for name, each in model.named_modules() if each is module)
    return f"{type(module).__name__} {name!r}"


def watched_by_hooks(model: nn.Module) -> bool:
    """Whether somebody looks at what passes between the modules of a model."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules_of(model))


def check_finite(model: nn.Module) -> None:
    """Refuse weights that are not finite.

    Raises:
        ModelError: If a parameter holds NaN or infinite values.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not all_finite(parameter):
            count = int((~torch.isfinite(parameter)).sum())
            raise ModelError(f"parameter {name!r} holds {count} values that are NaN or infinite; load sound weights")
