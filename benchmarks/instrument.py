"""Measure the instrument against its bounds and its peers: time in one process, memory each in its own.

    python benchmarks/instrument.py --output results

`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import markdown, memory, results, timing
from measuring.contenders import CONTENDERS, Run, Unavailable, largest_difference
from measuring.environment import environment
from measuring.networks import DEFAULT, NETWORKS, Network

#: Samples for which a few are enough: comparing squared norms with the plain loop, loading code before memory counts.
FEW = 4


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    networks: tuple[str, ...]
    contenders: tuple[str, ...]
    batches: tuple[int, ...]
    repeats: int
    slow_repeats: int
    warmups: int
    seed: int
    memory: bool
    timeout: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script.

    Returns:
        The exit code: 0 also when a contender could not run, because its row says why.
    """
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(results.render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    settings = Settings(
        tuple(options.networks),
        tuple(options.only or CONTENDERS),
        tuple(options.batch),
        options.repeats,
        options.slow_repeats,
        options.warmups,
        options.seed,
        not options.no_memory,
        options.timeout,
    )
    if options.memory:
        return _memory_here(settings)
    packages = {"torch", "gradiometer", "numpy"}.union(*(CONTENDERS[name].packages for name in settings.contenders))
    document: dict[str, Any] = {
        "schema": results.SCHEMA,
        "environment": environment(packages),
        "settings": vars(settings),
        "sections": [],
    }
    for name in settings.networks:
        for batch in settings.batches:
            document["sections"].append(_section(name, batch, settings))
            if options.output is not None:  # after every section: an interruption loses nothing that was finished
                markdown.write(options.output, "instrument", document, results.render(document))
    print(results.render(document), end="")
    return 0


def _section(name: str, batch: int, settings: Settings) -> dict[str, Any]:
    """Measure all contenders on one network and batch."""
    network = NETWORKS[name]
    rows = {each: results.Row(each, CONTENDERS[each].title, CONTENDERS[each].kind) for each in settings.contenders}
    if settings.memory:
        # First of all: a contender that the system ends for want of memory must not take this process with it.
        for row in rows.values():
            _tell(f"{network.title}, batch {batch}: memory of {row.title}")
            found = memory.of_another_process(_command(name, batch, row.name, settings), settings.timeout)
            row.reason = str(found.get("reason", ""))
            row.memory = None if row.reason else found
    model, inputs = network.make(settings.seed), network.draw(batch, settings.seed)
    runs: dict[str, Run] = {}
    for row in rows.values():
        if row.reason:
            continue
        _tell(f"{network.title}, batch {batch}: warm-up of {row.title}")
        try:
            runs[row.name] = _ready(row, network, copy.deepcopy(model), inputs, settings)
        except Exception as error:
            row.reason = _reason(error)
    repeats = {each: settings.slow_repeats if CONTENDERS[each].slow else settings.repeats for each in runs}
    _tell(f"{network.title}, batch {batch}: {max(repeats.values(), default=0)} rounds of {len(runs)} contenders")
    taken = timing.interleaved({each: run.call for each, run in runs.items()}, repeats, settings.seed)
    for each, seconds in taken.items():
        rows[each].seconds = seconds
    parameters = list(model.parameters())
    return results.section(
        name,
        network.title,
        batch=batch,
        tensors=len(parameters),
        values=sum(parameter.numel() for parameter in parameters),
        rows=list(rows.values()),
    )


def _ready(row: results.Row, network: Network, model: torch.nn.Module, inputs: torch.Tensor, settings: Settings) -> Run:
    """Prepare a contender, warm it up, and compare what it reads with the plain loop."""
    contender = CONTENDERS[row.name]
    run = contender.prepare(network, model, inputs)
    row.note = run.note
    found = run.call()
    for _ in range(0 if contender.slow else settings.warmups - 1):
        run.call()
    if run.expected is not None and found is not None:
        row.difference = largest_difference(found, run.expected(min(FEW, len(inputs))))
        row.per_parameter = found.ndim == 2
    return run


def _memory_here(settings: Settings) -> int:
    """Measure the memory of one contender in this process, and print it as JSON."""
    if len(settings.contenders) != 1 or len(settings.networks) != 1 or len(settings.batches) != 1:
        print("--memory takes exactly one contender (--only), one network and one batch size", file=sys.stderr)
        return 2
    network, contender = NETWORKS[settings.networks[0]], CONTENDERS[settings.contenders[0]]
    model, inputs = network.make(settings.seed), network.draw(settings.batches[0], settings.seed)
    try:
        # On a few samples and a copy first, which is dropped: code that libraries load late is no working memory.
        contender.prepare(network, copy.deepcopy(model), inputs[:FEW]).call()
        run = contender.prepare(network, model, inputs)
        found = memory.measure(run.call, calls=1 if contender.slow else 2).to_dict()
    except Exception as error:
        found = {"reason": _reason(error)}
    print(json.dumps(found))
    return 0


def _reason(error: Exception) -> str:
    """Why a contender did not run, on one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    return text if isinstance(error, Unavailable) else f"{type(error).__name__}: {text}"


def _command(network: str, batch: int, contender: str, settings: Settings) -> list[str]:
    """This script again, for the memory of one contender."""
    values = {
        "--networks": network,
        "--batch": batch,
        "--only": contender,
        "--seed": settings.seed,
        "--threads": torch.get_num_threads(),
    }
    return [str(Path(__file__).resolve()), "--memory", *(str(part) for pair in values.items() for part in pair)]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=DEFAULT, help="networks to measure on")
    add("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=f"these contenders, of: {', '.join(CONTENDERS)}")
    add("--batch", nargs="+", type=_positive, default=[64], help="batch sizes")
    add("--repeats", type=_positive, default=15, help="how often each contender is timed")
    add("--slow-repeats", type=_positive, default=5, help="how often those are timed that take many training steps")
    add("--warmups", type=_positive, default=2, help="calls before the first timed one; slow contenders get one")
    add("--seed", type=int, default=0, help="seed of weights, inputs and the order within a round")
    add("--threads", type=_positive, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for instrument.json and instrument.md")
    add("--no-memory", action="store_true", help="leave out the processes that measure memory")
    add("--memory", action="store_true", help="measure nothing but the memory of one contender, in this process")
    add("--timeout", type=float, default=900.0, help="seconds that the memory of one contender may take")
    add("--render", type=Path, metavar="FILE", help="measure nothing; print the table of an instrument.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
