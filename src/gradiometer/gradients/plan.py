"""A plan: how the statistic of each parameter is computed, checked against the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from gradiometer.errors import ModelError
from gradiometer.gradients import samples
from gradiometer.gradients.factors import Factor, exact
from gradiometer.gradients.failures import ProgramMismatch, RuleFailure, as_failure_of_the_model
from gradiometer.gradients.loop import Loop
from gradiometer.gradients.planning import SAMPLES, Program, probe
from gradiometer.gradients.reader import Reader
from gradiometer.gradients.seeds import check_outputs
from gradiometer.gradients.state import doubled
from gradiometer.gradients.together import kept_size

#: Largest difference of outputs, relative to the largest output, that is put down to rounding, by dtype.
_OUTPUT_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
#: Largest relative difference of a statistic to the loop that is put down to rounding.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
#: Both for shorter types.
_LOW_PRECISION = 0.3
#: Largest relative difference of a statistic that units within rounding of a kink may make.
_SWITCHED = 0.05
#: Number of directions for which the memory of several is estimated.
SEVERAL = 10


@dataclass(frozen=True)
class Line:
    """How the statistic of one parameter is computed.

    Attributes:
        parameter: Its name.
        shape: Its shape.
        path: The form: `outer`, `gram`, `offsets`, `groups`, `kernel`, `winograd`, `sum`, `rows`, `vmap`, `explicit`,
            `through its use`, `loop`, `unused`; with `pixels, ` before it for a convolution of single pixels, and with
            `, folded` behind it where a batch norm was folded into the layer before. Several uses are joined by ` + `.
        uses: How often the parameter is used in a forward pass.
    """

    parameter: str
    shape: tuple[int, ...]
    path: str
    uses: int


@dataclass(frozen=True)
class Plan:
    """How every statistic is computed for one shape of input, but for a batch of one: that has its own backward pass.

    Attributes:
        lines: One line for each parameter tensor.
        program: What the reader does in each step.
        direction_bytes: Memory that one sample takes for each direction of several that are read together.
        outputs: Shape of the outputs for one sample.
    """

    lines: tuple[Line, ...]
    program: Program
    direction_bytes: int = 0
    outputs: tuple[int, ...] = ()

    def __str__(self) -> str:
        """A table."""
        width = max(len(line.parameter) for line in self.lines)
        rows = [f"{'parameter':<{width}}  {'shape':<18}  {'uses':>4}  path"]
        rows += [
            f"{line.parameter:<{width}}  {'x'.join(map(str, line.shape)) or 'scalar':<18}  {line.uses:>4}  {line.path}"
            for line in self.lines
        ]
        return "\n".join(rows)


def make_plan(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    forward: Callable[[Any], Any],
    select: Callable[[Any], Tensor],
    x: Any,
) -> Plan:
    """Make a plan for inputs of this shape, and check it.

    Args:
        model: The model.
        parameters: The parameters to read; they require gradients.
        forward: The model's forward pass.
        select: Picks the outputs that the objective sees.
        x: Samples of the shape in question.

    Raises:
        ModelError: If the model cannot take such samples, or an output depends on others of the batch, or on chance.
    """
    data = samples.probing(x, SAMPLES)
    with as_failure_of_the_model(model, forward, data):
        program, raw = probe(parameters, forward, data)
    # Native kernels of this device read and write images in blocks of channels, whatever the format around them.
    program.channels_last = program.folds = next(iter(parameters.values())).device.type == "cpu"
    program.kernels = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 4)
    outputs = select(raw).detach()
    if outputs.ndim == 0 or len(outputs) != SAMPLES:
        raise ModelError(
            f"a batch of {SAMPLES} gives outputs of shape {tuple(outputs.shape)}: the first dimension must be the "
            "samples; give output= a callable that arranges them so"
        )
    loop = Loop(forward, select, parameters)
    _check_separate(outputs, loop.outputs(data, SAMPLES))
    with torch.no_grad():
        _check_separate(select(forward(samples.rotated(data))), outputs.roll(1, 0))
    generator = torch.Generator().manual_seed(2)
    seeds = torch.randn(outputs.shape, generator=generator).to(outputs)
    expected = loop.statistics(data, seeds, SAMPLES, _norms)
    check = functools.partial(_check, parameters, program, forward, select)
    reader, kept, unsure = check(data, seeds, expected)
    # The second batch holds the same samples in another order: where that decides what a model does, the loop is right.
    turned = {name: value.roll(1, 0) for name, value in expected.items()}
    reader, kept, others = check(samples.rotated(data), seeds.roll(1, 0), turned)
    unsure |= others
    if unsure:
        program.looped |= unsure & _different_in_double(model, parameters, program, forward, select, data, seeds)
    program.deferred = True
    lines = tuple(
        Line(name, tuple(parameter.shape), _path(name, program, reader), len(reader.collector.forms[name]))
        for name, parameter in parameters.items()
    )
    return Plan(lines, program, 4 * sum(kept.values()), tuple(outputs.shape[1:]))


def _check(
    parameters: Mapping[str, Tensor],
    program: Program,
    forward: Callable[[Any], Any],
    select: Callable[[Any], Tensor],
    data: Any,
    seeds: Tensor,
    expected: Mapping[str, Tensor],
) -> tuple[Reader, dict[str, int], set[str]]:
    """Carry the program out on a batch, and leave to the loop what fails or differs from it.

    Returns:
        The reader, how much it keeps of each parameter for several directions, and the parameters whose statistics
        differ as if a unit had switched.
    """
    kept: dict[str, int] = {}

    def norms(name: str, factor: Factor) -> Tensor:
        kept[name] = kept_size(factor, SEVERAL)
        return _norms(name, factor)

    while True:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name not in program.looped)
        reader = Reader(parameters, program, SAMPLES, folds=program.folds)
        try:
            with reader:
                selected = _selected(forward, select, data, program, reader)
            if strays := reader.strays(selected):
                program.looped |= strays
                continue
            found = reader.backward(selected, seeds, norms, last=True)
        except _OtherFormat:
            program.channels_last = False
        except RuleFailure as failure:
            program.looped |= failure.roots
        except (ProgramMismatch, CheckpointError):
            if program.folds:
                program.folds = False
                continue
            program.looped |= set(parameters)
            return reader, kept, set()
        else:
            unsure: set[str] = set()
            if program.looped < set(parameters):
                different, unsure = _different(found, expected, seeds.dtype)
                program.looped |= different - reader.collector.doubtful
            return reader, kept, unsure - reader.collector.doubtful
        finally:
            reader.close()


def _different_in_double(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    program: Program,
    forward: Callable[[Any], Any],
    select: Callable[[Any], Tensor],
    data: Any,
    seeds: Tensor,
) -> set[str]:
    """Parameters whose statistics differ from the loop's in float64 too, where no unit is within rounding of a kink.

    All of them where the model cannot be run in float64.
    """
    trial = replace(program, looped=set(program.looped))
    try:
        with doubled(model):
            for parameter in parameters.values():
                parameter.requires_grad_()  # the check leaves those out that it leaves to the loop
            data, seeds = samples.doubled(data), seeds.double()
            expected = Loop(forward, select, parameters).statistics(data, seeds, SAMPLES, _norms)
            *_, unsure = _check(parameters, trial, forward, select, data, seeds, expected)
    except (RuntimeError, TypeError, ModelError):  # types that the model names itself; devices without float64
        return set(parameters)
    return trial.looped | unsure


class _OtherFormat(Exception):
    """The model cannot take images in another memory format than its own."""


def _selected(
    forward: Callable[[Any], Any], select: Callable[[Any], Tensor], data: Any, program: Program, reader: Reader
) -> Tensor:
    try:
        # However few they are here: larger batches will be.
        raw = forward(samples.channels_last(data, 0) if program.channels_last else data)
        return select(reader.returned(raw))
    except RuntimeError as error:
        # `view` on an image, and whatever else speaks of strides.
        if program.channels_last and not isinstance(error, CheckpointError):
            raise _OtherFormat from error
        raise


def _norms(_: str, factor: Factor) -> Tensor:
    return exact(factor.squared_norms())


def _path(name: str, program: Program, reader: Reader) -> str:
    if name in program.looped:
        return "loop"
    return " + ".join(sorted(set(reader.collector.forms[name]))) or "unused"


def _check_separate(together: Tensor, alone: Tensor) -> None:
    """Refuse models whose outputs for a sample depend on the batch around it."""
    if together.shape != alone.shape:
        raise ModelError(
            f"a batch of {SAMPLES} gives outputs {tuple(together.shape)}, but its samples one by one give "
            f"{tuple(alone.shape)}: the first dimension of the outputs must be the samples"
        )
    for outputs in (together, alone):
        check_outputs(outputs)
    difference = (exact(together) - exact(alone)).abs().max().item() if together.numel() else 0.0
    scale = exact(alone).abs().max().item() if alone.numel() else 0.0
    if not difference <= _OUTPUT_TOLERANCE.get(together.dtype, _LOW_PRECISION) * scale:
        raise ModelError(
            f"the outputs of a sample depend on the other samples of the batch, or on chance: they differ by "
            f"{difference:.3g} (outputs reach {scale:.3g}) when the sample stands alone; "
            "put the model into evaluation mode and remove operations across the batch"
        )


def _different(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[set[str], set[str]]:
    """Parameters whose statistic differs from the loop's by more than rounding.

    A unit within rounding of a kink, such as the zero of a rectifier, is open in the loop and closed in a batch, or the
    other way round, and what lies before that unit differs by a little.

    Returns:
        Those that differ for certain, and those that do as if a unit had switched.
    """
    largest = max((value.max().item() for value in expected.values()), default=0.0)
    tolerance = _TOLERANCE.get(dtype, _LOW_PRECISION)
    different: set[str] = set()
    unsure: set[str] = set()
    for name, value in expected.items():
        apart = (found.get(name, torch.zeros_like(value)) - value).abs()
        wrong = apart > tolerance * value + 1e-5 * tolerance * largest
        if bool(wrong.any()):
            (unsure if bool((apart <= _SWITCHED * value).all()) else different).add(name)
    return different, unsure
