"""All contenders on one network and batch: time in this process, in turns; memory each in a process of its own."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from measuring import memory, results, timing
from measuring.contenders import EVERY, Contender, Run, Unavailable, largest_difference
from measuring.networks import Network

#: Samples for which a few are enough: comparing with the plain loop, loading code before memory counts.
FEW = 4

#: Share of the free memory that a process which measures memory may ask for.
SHARE = 0.85

#: What is measured in one process: networks and batches by the number that tells them apart, a batch or another size.
Tasks = Mapping[int, tuple[Network, int]]


@dataclass(frozen=True)
class Settings:
    """How contenders are measured.

    Attributes:
        contenders: Their names.
        repeats: How often each of them is timed.
        slow_repeats: How often those are timed that take many training steps.
        warmups: Calls before the first that is timed; slow contenders get one.
        seed: Seed of weights, inputs and orders.
        patience: Seconds after which a contender is not timed again, but at least three times, or once if it is slow.
    """

    contenders: tuple[str, ...]
    repeats: int = 15
    slow_repeats: int = 5
    warmups: int = 2
    seed: int = 0
    patience: float = 30.0

    def to_dict(self) -> dict[str, Any]:
        """Its entries as JSON has them."""
        return {**asdict(self), "contenders": list(self.contenders)}

    def rounds(self, name: str, seconds: float) -> int:
        """How often a contender is timed whose call takes some seconds."""
        slow = EVERY[name].slow
        most, least = (self.slow_repeats, 1) if slow else (self.repeats, min(3, self.repeats))
        return max(least, min(most, int(self.patience / max(seconds, 1e-9))))


def memories(
    commands: Mapping[str, Sequence[str]], sizes: Sequence[int], timeout: float, tell: Callable[[str], None]
) -> dict[int, dict[str, dict[str, Any]]]:
    """Measure the memory of each contender in a process of its own, all sizes one after the other.

    Args:
        commands: What runs `measure_memory` for a contender and these sizes, by its name.
        sizes: Numbers of the tasks.
        timeout: Seconds that a process may take.
        tell: Says what is being done.

    Returns:
        For each size and contender what `measure_memory` printed, or why it did not as `reason`.
    """
    found: dict[int, dict[str, dict[str, Any]]] = {size: {} for size in sizes}
    for name, command in commands.items():
        tell(f"memory of {EVERY[name].title}")
        printed, reason = memory.of_another_process(command, timeout)
        by_size = {each.pop("size"): each for each in printed}
        for size in sizes:
            found[size][name] = by_size.get(size, {"reason": reason or "its process printed nothing"})
    return found


def measure_memory(name: str, tasks: Tasks, seed: int) -> None:
    """Measure the memory of one contender in this process, and print an object of JSON for each task.

    Args:
        name: Name of the contender.
        tasks: Networks and batches, the smallest first.
        seed: Seed of weights and inputs.
    """
    memory.keep_within(SHARE)
    contender = EVERY[name]
    for size, (network, batch) in tasks.items():
        try:
            model, inputs = network.make(seed, settle=False), network.draw(batch, seed)
            _freeze(contender, network, model)
            # On a few samples and a copy first, which is dropped: code that libraries load late is no working memory.
            contender.prepare(network, copy.deepcopy(model), inputs[:FEW]).call()
            run = contender.prepare(network, model, inputs)
            seconds: list[float] = []

            def call(run: Run = run, seconds: list[float] = seconds) -> None:
                seconds.append(timing.timed(run.call))

            taken = memory.measure(call, calls=1 if contender.slow else 2)
            found = {**taken.to_dict(), "seconds": min(seconds)}
            del run, call
        except Exception as error:
            found = {"reason": why(error)}
        print(json.dumps({"size": size, **found}), flush=True)


def compare(
    network: Network,
    batch: int,
    settings: Settings,
    tell: Callable[[str], None],
    taken: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Time all contenders on one network and batch.

    Args:
        network: The network and its task.
        batch: Number of samples B.
        settings: How they are measured.
        tell: Says what is being done.
        taken: Their memory, if that was measured; one that did not run there is not run here.

    Returns:
        A section of the record, without its key and its environment.
    """
    rows = {each: _row(each, taken) for each in settings.contenders}
    model, inputs = network.make(settings.seed), network.draw(batch, settings.seed)
    runs: dict[str, Run] = {}
    copies: dict[str, nn.Module] = {}
    repeats: dict[str, int] = {}
    for row in rows.values():
        if row.reason:
            continue
        if row.memory is not None and EVERY[row.name].slow and row.memory["seconds"] > settings.patience:
            row.seconds, row.single = [row.memory["seconds"]], True
        tell(f"warm-up of {row.title}")
        try:
            copies[row.name] = copy.deepcopy(model)
            _freeze(EVERY[row.name], network, copies[row.name])
            run, repeats[row.name] = _ready(row, network, copies[row.name], inputs, settings)
        except Exception as error:
            row.reason, row.seconds = why(error), []
            continue
        if not row.seconds:
            runs[row.name] = run
        forget(copies[row.name])
    tell(f"{max((repeats[each] for each in runs), default=0)} rounds of {len(runs)} contenders")
    calls = {each: run.call for each, run in runs.items()}
    for each, seconds in timing.interleaved(calls, repeats, settings.seed, lambda name: forget(copies[name])).items():
        rows[each].seconds = seconds
    parameters = list(model.parameters())
    return results.section(
        network,
        batch=batch,
        tensors=len(parameters),
        values=sum(parameter.numel() for parameter in parameters),
        rows=list(rows.values()),
    )


def _freeze(contender: Contender, network: Network, model: nn.Module) -> None:
    """Freeze the parameters that are not read, but for bounds: a training step trains all of them."""
    if contender.kind != "bound":
        network.freeze_others(model)


def _row(name: str, taken: Mapping[str, Mapping[str, Any]] | None) -> results.Row:
    contender = EVERY[name]
    row = results.Row(name, contender.title, contender.kind)
    if taken is not None:
        found = dict(taken[name])
        row.reason = str(found.get("reason", ""))
        row.memory = None if row.reason else found
    return row


def _ready(row: results.Row, network: Network, model: nn.Module, inputs: Tensor, settings: Settings) -> tuple[Run, int]:
    """Prepare a contender, warm it up, compare what it reads with the plain loop, and say how often to time it."""
    contender = EVERY[row.name]
    # What took too long to be timed again is compared on a few samples.
    run = contender.prepare(network, model, inputs[:FEW] if row.single else inputs)
    row.note = run.note
    first: list[Tensor | None] = []
    seconds = timing.timed(lambda: first.append(run.call()))
    found = first.pop()
    if run.expected is not None and found is not None:
        row.difference = largest_difference(found, run.expected(min(FEW, len(inputs))))
        row.per_parameter = found.ndim > 1
    if contender.slow and seconds > settings.patience and not row.single:
        row.seconds, row.single = [seconds], True
    for _ in range(0 if contender.slow else settings.warmups - 1):
        seconds = timing.timed(run.call)  # the first call may have made a plan
    return run, settings.rounds(row.name, seconds)


def forget(model: nn.Module) -> None:
    """Drop what a call left on the parameters, so that it does not lie beside the next contender's memory."""
    for parameter in model.parameters():
        parameter.grad = None
        for attribute, value in list(vars(parameter).items()):
            if isinstance(value, Tensor):
                setattr(parameter, attribute, None)


def why(error: Exception) -> str:
    """Why a contender did not run, on one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    return text if isinstance(error, Unavailable) else f"{type(error).__name__}: {text}"


def tell(text: str) -> None:
    """Say on the standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def threads(count: int | None) -> None:
    """Set the number of threads of PyTorch, or leave its own choice."""
    if count is not None:
        torch.set_num_threads(count)
