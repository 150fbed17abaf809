"""Measure the instrument against its bounds and its peers: time in one process, memory each in its own.

    python benchmarks/instrument.py --output results
    python benchmarks/instrument.py --output results --networks all

A run that was interrupted continues where it was. `benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import figures, results
from measuring.comparison import Settings, compare, measure_memory, memories, tell, threads
from measuring.contenders import CONTENDERS
from measuring.environment import environment
from measuring.networks import DEFAULT, NETWORKS
from measuring.options import positive
from measuring.record import Record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script.

    Returns:
        The exit code: 0 also when a contender could not run, because its row says why.
    """
    options = _parser().parse_args(arguments)
    if options.render is not None:
        document = json.loads(options.render.read_text(encoding="utf-8"))
        print(results.render(document), end="")
        figures.write(options.output, figures.instrument(document))
        return 0
    threads(options.threads)
    names = [*NETWORKS] if "all" in options.networks else options.networks
    settings = Settings(
        tuple(options.only or CONTENDERS),
        options.repeats,
        options.slow_repeats,
        options.warmups,
        options.seed,
        options.patience,
    )
    if options.memory:
        if len(settings.contenders) != 1 or len(names) != 1 or not options.batch:
            print("--memory takes exactly one contender (--only), one network and batch sizes", file=sys.stderr)
            return 2
        tasks = {batch: (NETWORKS[names[0]], batch) for batch in sorted(options.batch)}
        measure_memory(settings.contenders[0], tasks, settings.seed)
        return 0
    record = Record("instrument", results.SCHEMA, results.render, options.output)
    for name in names:
        if name != "tiny" or "all" not in options.networks:
            _network(name, settings, record, options)
    print(record.text, end="")
    return 0


def _network(name: str, settings: Settings, record: Record, options: argparse.Namespace) -> None:
    """Measure one network on all batches that are not finished yet."""
    network = NETWORKS[name]
    packages = {"torch", "gradiometer", "numpy"}.union(*(CONTENDERS[each].packages for each in settings.contenders))
    found, kept = environment(packages), {**settings.to_dict(), "memory": not options.no_memory}

    def finished(batch: int) -> bool:
        return not options.again and record.finished({"network": name, "batch": batch}, found, kept)

    asked = sorted(set(options.batch or network.batches))
    batches = [batch for batch in asked if not finished(batch)]
    if not batches:
        tell(f"{network.title}: finished earlier")
        return
    taken: Mapping[int, Any] = {}
    if not options.no_memory:
        # First of all: a contender that the system ends for want of memory must not take this process with it.
        commands = {each: _command(name, batches, each, settings.seed) for each in settings.contenders}
        taken = memories(commands, batches, options.timeout, lambda text: tell(f"{network.title}: {text}"))
    for batch in batches:
        start, weather = time.perf_counter(), environment(packages)
        title = f"{network.title}, batch {batch}"
        section = compare(
            network, batch, settings, lambda text, title=title: tell(f"{title}: {text}"), taken.get(batch)
        )
        key = {"network": name, "batch": batch}
        record.put(
            {**key, **section, "environment": weather, "settings": kept, "took": time.perf_counter() - start}, key
        )
        figures.write(options.output, figures.instrument(record.document))


def _command(network: str, batches: Sequence[int], contender: str, seed: int) -> list[str]:
    """This script again, for the memory of one contender."""
    values = {"--networks": network, "--only": contender, "--seed": seed, "--threads": torch.get_num_threads()}
    pairs = [str(part) for pair in values.items() for part in pair]
    return [str(Path(__file__).resolve()), "--memory", *pairs, "--batch", *map(str, batches)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--networks", nargs="+", choices=[*NETWORKS, "all"], default=DEFAULT, help="networks to measure on")
    add("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=f"these contenders, of: {', '.join(CONTENDERS)}")
    add("--batch", nargs="+", type=positive, help="batch sizes; those of each network when absent")
    add("--repeats", type=positive, default=15, help="how often each contender is timed")
    add("--slow-repeats", type=positive, default=5, help="how often those are timed that take many training steps")
    add("--warmups", type=positive, default=2, help="calls before the first timed one; slow contenders get one")
    add("--patience", type=float, default=30.0, help="seconds after which a contender is not timed again")
    add("--seed", type=int, default=0, help="seed of weights, inputs and the order within a round")
    add("--threads", type=positive, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for instrument.json, its table and its figures")
    add("--again", action="store_true", help="measure also what the folder holds already")
    add("--no-memory", action="store_true", help="leave out the processes that measure memory")
    add("--memory", action="store_true", help="measure nothing but the memory of one contender, in this process")
    add("--timeout", type=float, default=240.0, help="seconds that the memory of one contender may take on a network")
    add("--render", type=Path, metavar="FILE", help="measure nothing; render an instrument.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
