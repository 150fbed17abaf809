"""The passes through a model that give the statistics of one batch, by the program of a plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gradiometer.errors import GradiometerError, ModelError
from gradiometer.gradients.activations import LayerInputs, Wanted, one_by_one
from gradiometer.gradients.collector import Reduce
from gradiometer.gradients.factors import Zero, exact
from gradiometer.gradients.failures import Apart, ProgramMismatch, RuleFailure, Unsure
from gradiometer.gradients.loop import Loop
from gradiometer.gradients.objectives import Loss, Objective
from gradiometer.gradients.planning import Program, check_mode, watched_by_hooks
from gradiometer.gradients.reader import Reader
from gradiometer.gradients.seeds import check_outputs, scaled, seeds_of
from gradiometer.gradients.single import Single, single
from gradiometer.gradients.state import left_as_found

Power = int | tuple[int, ...]
"""With which power of the gradient a statistic grows; one for each of several statistics."""

#: How far statistics of labels that are sent back at once may be from those of one alone, in units of the largest.
_ALIKE, _LOW_PRECISION = {torch.float64: 1e-6, torch.float32: 1e-3}, 0.1

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Found:
    """Statistics of one part of a batch.

    Attributes:
        outputs: What the model returned, (B, ...).
        values: The statistic of each parameter, (B, ...).
        inputs: What was kept of the inputs of the layers, if asked for.
    """

    outputs: Tensor
    values: dict[str, Tensor]
    inputs: LayerInputs | None


@dataclass(frozen=True)
class Subject:
    """What is read, and how.

    Attributes:
        model: The model.
        parameters: The parameters to read.
        forward: The model's forward pass.
        select: Picks the outputs that the objective sees.
        program: What to do in each step. Parameters whose way fails are added to those left to the loop.
        alone: Whether there is one sample, which is read by a backward pass of its own.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor]
    forward: Callable[[Any], Any]
    select: Callable[[Any], Tensor]
    program: Program
    alone: bool = False

    def named(self, names: Collection[str]) -> dict[str, Tensor]:
        """The parameters of these names, in order."""
        return {name: parameter for name, parameter in self.parameters.items() if name in names}

    def loop(self, names: Collection[str]) -> Loop:
        """The loop over single samples for these parameters."""
        return Loop(self.forward, self.select, self.named(names))


@dataclass
class Walk:
    """A forward pass through which backward passes can be sent.

    Attributes:
        outputs: The selected outputs (B, ...), without history.
        looped: Parameters that it cannot read.
        inputs: What was kept of the inputs of the layers, if asked for.
    """

    outputs: Tensor
    looped: set[str]
    inputs: LayerInputs | None
    _program: Program
    _reader: Reader
    _history: Tensor | None

    def backward(self, seed: Tensor, reduce: Reduce, *, last: bool) -> dict[str, Tensor]:
        """The statistic by name for one seed, without parameters that are left to the loop or have no influence."""
        if self._history is None:
            return {}
        return self._reader.backward(self._history, seed.to(self._history.dtype), reduce, last=last)

    def every(self, seeds: Tensor, reduce: Reduce, at_once: int, *, last: bool = True) -> list[dict[str, Tensor]]:
        """The same for each of several seeds (N, B, ...).

        Args:
            seeds: The seeds.
            reduce: The statistic.
            at_once: How many of them may be sent back at once.
            last: Whether no other seeds follow.

        Raises:
            Apart: They can only be sent back one by one.
        """
        if at_once < 2 or len(seeds) < 2 or self._history is None:
            numbered = enumerate(seeds, 1)
            return [self.backward(seed, reduce, last=last and number == len(seeds)) for number, seed in numbered]
        history, found = self._history, []
        turns = -(-len(seeds) // at_once)
        for some in seeds.to(history.dtype).tensor_split(turns):
            try:
                found += self._reader.stacked(history, some, reduce)
            except (GradiometerError, Unsure):
                raise
            except Exception as error:
                raise Apart from error
        if self._program.stacks is None:
            alone = self.backward(seeds[-1], reduce, last=last)
            if not _alike(found[-1], alone, _ALIKE.get(history.dtype, _LOW_PRECISION)):
                raise Apart
            self._program.stacks = True
        return found

    @property
    def doubtful(self) -> set[str]:
        """Parameters whose statistic may have left the range of float32 on the way."""
        return self._reader.collector.doubtful


@contextmanager
def walk(
    subject: Subject, x: Any, batch: int, wanted: Wanted | None = None, *, several: bool = False, stacks: bool = False
) -> Iterator[Walk]:
    """One forward pass by the program.

    Args:
        subject: What is read.
        x: B samples.
        batch: Their number B.
        wanted: What is kept of layer inputs besides their norms; None to keep nothing of them.
        several: Whether a statistic has a last dimension for several of them; see `Reader`.
        stacks: Whether several labels are to be sent back at once; see `Reader`.

    Raises:
        ModelError: If the outputs are not finite or have no gradient.
    """
    check_mode(subject.model)
    kept = None if wanted is None else LayerInputs(wanted)
    folds = subject.program.folds and not watched_by_hooks(subject.model)
    reader = Reader(
        subject.parameters, subject.program, batch, activations=kept, several=several, folds=folds, stacks=stacks
    )
    read = subject.named(set(subject.parameters) - subject.program.looped)
    looped, outputs = set(subject.program.looped), None
    with left_as_found(subject.model, read.values()), closing(reader):
        if read or kept is not None:
            try:
                with reader:
                    raw = subject.forward(subject.program.arranged(x))
                outputs = subject.select(reader.returned(raw))
                looped |= reader.strays(outputs)
            except ProgramMismatch:
                looped = set(subject.parameters)
                if wanted is not None:
                    kept = one_by_one(subject.parameters, subject.forward, x, batch, wanted)
        visible = subject.loop(looped).outputs(x, batch) if outputs is None else outputs.detach()
        check_outputs(visible)
        yield Walk(visible, looped, kept, subject.program, reader, outputs if read else None)


def attempted(program: Program, attempt: Callable[[], _Result]) -> _Result:
    """Try again, more carefully or with more parameters left to the loop, as long as the way of some fails.

    Raises:
        ModelError: If the loop fails too.
    """
    while True:
        try:
            return attempt()
        except RuleFailure as failure:
            if failure.roots <= program.looped:
                raise ModelError(f"the gradients of {failure} cannot be computed: {failure.__cause__}") from failure
            program.looped |= failure.roots  # a statistic that the check did not try
        except Apart:
            program.stacks = False
        except Unsure:
            continue  # the program says from now on that each statistic is looked at


def statistics(
    subject: Subject,
    x: Any,
    batch: int,
    objective: Objective | Loss,
    reduce: Reduce,
    power: Power,
    wanted: Wanted | None = None,
    room: int = 0,
) -> Found:
    """One statistic of every parameter for a batch that fits into memory.

    Args:
        subject: What is read.
        x: B samples.
        batch: Their number B.
        objective: What is backpropagated.
        reduce: The statistic.
        power: With which power of the gradient it grows.
        wanted: See `walk`.
        room: Samples of all labels together up to which several labels may be sent back at once.
    """
    return attempted(subject.program, lambda: _attempt(subject, x, batch, objective, reduce, power, wanted, room))


def _attempt(
    subject: Subject,
    x: Any,
    batch: int,
    objective: Objective | Loss,
    reduce: Reduce,
    power: Power,
    wanted: Wanted | None,
    room: int,
) -> Found:
    """One forward pass and the backward passes through it."""
    several = getattr(objective, "several", False)
    at_once = subject.program.at_once(room, batch) if several else 1
    with _way(subject, x, batch, wanted, several=isinstance(power, tuple), stacks=at_once > 1) as way:
        raw = seeds_of(objective, way.outputs, x, trusted=subject.program.apart is objective)
        if batch > 1:
            subject.program.apart = objective
        seeds, exponents = scaled(raw, way.outputs)
        found = way.every(seeds, reduce, at_once)
    if looped := way.looped | way.doubtful:
        loop = subject.loop(looped)
        with left_as_found(subject.model, loop.parameters.values()):
            for number, seed in enumerate(seeds):
                found[number] |= loop.statistics(x, seed, batch, reduce)
    values = _joined(subject.parameters, found, exponents, batch, reduce, power, several=several)
    return Found(way.outputs, values, way.inputs)


@contextmanager
def _way(
    subject: Subject, x: Any, batch: int, wanted: Wanted | None, *, several: bool, stacks: bool
) -> Iterator[Walk | Single]:
    """One forward pass: by the program, or of one sample without it."""
    if stacks or not subject.alone:
        with walk(subject, x, batch, wanted, several=several, stacks=stacks) as way:
            yield way
        return
    check_mode(subject.model)
    with (
        left_as_found(subject.model, subject.parameters.values()),
        single(subject.parameters, subject.forward, subject.select, x, wanted, several=several) as one,
    ):
        yield one


def _alike(stacked: Mapping[str, Tensor], alone: Mapping[str, Tensor], tolerance: float) -> bool:
    """Whether the same statistics, found in two ways, agree but for rounding."""
    return stacked.keys() == alone.keys() and all(
        bool(((stacked[name] - value).abs() <= tolerance * value.abs().max()).all()) for name, value in alone.items()
    )


def _scaled(value: Tensor, scale: Tensor) -> Tensor:
    """A statistic times a scale in float64, as it was: where the device has no float64, by way of main memory."""
    return (value.to(scale.device) * scale).to(value)


def _joined(
    parameters: Mapping[str, Tensor],
    found: list[dict[str, Tensor]],
    exponents: Tensor,
    batch: int,
    reduce: Reduce,
    power: Power,
    *,
    several: bool,
) -> dict[str, Tensor]:
    """The statistics of all labels and parameters, with the scale of the seeds put back in."""
    labels: list[list[Tensor]] = []
    for statistic, exponent in zip(found, exponents, strict=True):
        exponent = exact(exponent)
        scale = torch.exp2(
            torch.stack([one * exponent for one in power], -1) if isinstance(power, tuple) else power * exponent
        )
        values = [
            reduce(name, Zero(batch, parameter)) if (value := statistic.get(name)) is None else value
            for name, parameter in parameters.items()
        ]
        if all(value.shape == scale.shape for value in values):
            labels.append([*_scaled(torch.stack(values), scale)])
            continue
        shapes = [(*scale.shape, *(1,) * (value.ndim - scale.ndim)) for value in values]
        labels.append([_scaled(value, scale.view(shape)) for value, shape in zip(values, shapes, strict=True)])
    parts = zip(*labels, strict=True) if several else ([value] for value in labels[0])
    return {
        name: torch.stack(tuple(part), 1) if several else part[0] for name, part in zip(parameters, parts, strict=True)
    }
