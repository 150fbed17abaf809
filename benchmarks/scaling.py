"""Measure how the cost of a reading grows with batch, resolution, depth and number of classes.

    python benchmarks/scaling.py --output docs/results/scaling

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
from measuring import figures, growing
from measuring.comparison import Settings, compare, measure_memory, memories, tell, threads
from measuring.environment import environment
from measuring.growing import AXES
from measuring.options import positive
from measuring.record import Record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        document = json.loads(options.render.read_text(encoding="utf-8"))
        print(growing.render(document), end="")
        figures.write(options.output, figures.growth(document))
        return 0
    threads(options.threads)
    if options.memory:
        if len(options.axes) != 1 or not options.only or len(options.only) != 1:
            print("--memory takes exactly one axis and one contender (--only)", file=sys.stderr)
            return 2
        axis = AXES[options.axes[0]]
        tasks = {size: (axis.network(size), axis.batch(size)) for size in options.sizes or axis.sizes}
        measure_memory(options.only[0], tasks, options.seed)
        return 0
    record = Record("scaling", growing.SCHEMA, growing.render, options.output)
    for name in options.axes:
        _axis(name, record, options)
    print(record.text, end="")
    return 0


def _axis(name: str, record: Record, options: argparse.Namespace) -> None:
    """Measure what is not finished yet along one axis."""
    axis = AXES[name]
    settings = Settings(
        tuple(options.only or growing.contenders(name)),
        options.repeats,
        options.slow_repeats,
        seed=options.seed,
        patience=options.patience,
    )
    kept = {**settings.to_dict(), "memory": not options.no_memory}
    packages = {"torch", "gradiometer"}
    found = environment(packages)
    sizes = [
        size
        for size in options.sizes or axis.sizes
        if options.again or not record.finished({"axis": name, "size": size}, found, kept)
    ]
    taken: Mapping[int, Any] = {}
    if not options.no_memory and sizes:
        commands = {each: _command(name, sizes, each, options.seed) for each in settings.contenders}
        taken = memories(commands, sizes, options.timeout, lambda text: tell(f"{axis.across}: {text}"))
    for size in sizes:
        start, weather = time.perf_counter(), environment(packages)
        title = f"{axis.across} {size}"
        section = compare(
            axis.network(size),
            axis.batch(size),
            settings,
            lambda text, title=title: tell(f"{title}: {text}"),
            taken.get(size),
        )
        key = {"axis": name, "size": size}
        about = {"of": axis.title, "across": axis.across, "environment": weather, "settings": kept}
        record.put({**key, **about, **section, "took": time.perf_counter() - start}, key)
        figures.write(options.output, figures.growth(record.document))


def _command(axis: str, sizes: Sequence[int], contender: str, seed: int) -> list[str]:
    """This script again, for the memory of one contender."""
    values = {"--axes": axis, "--only": contender, "--seed": seed, "--threads": torch.get_num_threads()}
    pairs = [str(part) for pair in values.items() for part in pair]
    return [str(Path(__file__).resolve()), "--memory", *pairs, "--sizes", *map(str, sizes)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--axes", nargs="+", choices=AXES, default=[*AXES], help="what grows")
    add("--sizes", nargs="+", type=positive, help="how far; the sizes of each axis when absent")
    add("--only", nargs="+", metavar="NAME", help="these contenders")
    add("--repeats", type=positive, default=9, help="how often each contender is timed")
    add("--slow-repeats", type=positive, default=3, help="how often those are timed that take many training steps")
    add("--patience", type=float, default=10.0, help="seconds after which a contender is not timed again")
    add("--seed", type=int, default=0, help="seed of weights, inputs and the order within a round")
    add("--threads", type=positive, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for scaling.json, scaling.md and a figure for each axis")
    add("--again", action="store_true", help="measure also what the folder holds already")
    add("--no-memory", action="store_true", help="leave out the processes that measure memory")
    add("--memory", action="store_true", help="measure nothing but the memory of one contender, in this process")
    add("--timeout", type=float, default=240.0, help="seconds that the memory of one contender may take on an axis")
    add("--render", type=Path, metavar="FILE", help="measure nothing; render a scaling.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
