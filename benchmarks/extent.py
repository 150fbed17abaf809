"""Measure what readings cost that ask for more than one label, or for fewer than all layers.

    python benchmarks/extent.py --output results

`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import markdown, timing
from measuring.contenders import CONTENDERS, FLOOR
from measuring.environment import environment
from measuring.networks import NETWORKS, Network
from torch import Tensor, nn

from gradiometer import ConfoundingLabel, ContrastClasses, Gradiometer
from gradiometer.gradients import RandomContrasts

FORWARD = "forward"

#: The parameters of the last layer, and those of the last stage with it.
DEPTHS = {
    "resnet20": ("fc.*", ("layer3.*", "fc.*")),
    "resnet18": ("fc.*", ("layer4.*", "fc.*")),
    "tiny": ("5.*", ("1.*", "5.*")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    document = {
        "schema": 1,
        "environment": environment({"torch", "gradiometer"}),
        "settings": {"repeats": options.repeats, "seed": options.seed},
        "sections": [_section(name, batch, options) for name in options.networks for batch in options.batch],
    }
    if options.output is not None:
        markdown.write(options.output, "extent", document, render(document))
    print(render(document), end="")
    return 0


def _section(name: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """All rows of one network and batch, measured in turns."""
    print(f"{name}, batch {batch}", file=sys.stderr, flush=True)
    network = NETWORKS[name]
    model, inputs = network.make(options.seed), network.draw(batch, options.seed)
    calls = _calls(network, name, model, inputs)
    for call in calls.values():
        call()  # plans are made here
    taken = timing.interleaved(calls, dict.fromkeys(calls, options.repeats), options.seed)
    medians = {row: timing.quartiles(seconds)[1] for row, seconds in taken.items()}
    backward = medians[FLOOR] - medians[FORWARD]
    classes = int(model(inputs[:1]).shape[1])
    rows = [
        {
            "name": row,
            "seconds": seconds,
            "median": medians[row],
            "to_forward": medians[row] / medians[FORWARD],
            "backward_parts": (medians[row] - medians[FORWARD]) / backward,
        }
        for row, seconds in taken.items()
    ]
    return {"network": name, "title": network.title, "batch": batch, "classes": classes, "rows": rows}


def _calls(network: Network, name: str, model: nn.Module, inputs: Tensor) -> dict[str, timing.Call]:
    """What is measured, by name."""

    def read(objective: Any, parameters: str | Sequence[str] = "*") -> Callable[[], object]:
        meter = Gradiometer(copy.deepcopy(model), objective, parameters)
        return lambda: meter.squared_norms(inputs)

    head, stage = DEPTHS[name]
    bounds = {row: CONTENDERS[row].prepare(network, copy.deepcopy(model), inputs).call for row in (FORWARD, FLOOR)}
    grams = Gradiometer(copy.deepcopy(model))
    return {
        **bounds,
        "floor, a backward pass for each class": _floor_of_each_class(copy.deepcopy(model), inputs),
        "one label": read(ConfoundingLabel()),
        "4 random contrasts": read(RandomContrasts(4)),
        "contrast classes": read(ContrastClasses()),
        "Gram matrices of all classes": lambda: grams.class_grams(inputs).squared_norms(ContrastClasses()),
        f"one label, {head}": read(ConfoundingLabel(), head),
        f"one label, {' '.join(stage)}": read(ConfoundingLabel(), stage),
        f"contrast classes, {head}": read(ContrastClasses(), head),
    }


def _floor_of_each_class(model: nn.Module, inputs: Tensor) -> timing.Call:
    """One forward pass, and the backward pass of activations alone for each class: a bound for exact readings."""
    model.requires_grad_(requires_grad=False)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    outputs: list[Tensor] = []
    first.register_forward_hook(lambda *arguments: outputs.append(arguments[2].requires_grad_()))

    def call() -> None:
        outputs.clear()
        logits = model(inputs)
        for number in range(logits.shape[1]):
            seed = torch.zeros_like(logits)
            seed[:, number] = 1
            torch.autograd.grad(logits, outputs[0], seed, retain_graph=number + 1 < logits.shape[1])

    return call


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    parts = ["# Readings of more labels, and of fewer layers", markdown.environment_text(document["environment"])]
    for found in document["sections"]:
        body = []
        for row in found["rows"]:
            first, middle, third = timing.quartiles(row["seconds"])
            body.append(
                [
                    row["name"],
                    markdown.number(1e3 * middle),
                    f"{markdown.number(1e3 * first)}–{markdown.number(1e3 * third)}",
                    f"{row['to_forward']:.2f}",
                    f"{row['backward_parts']:.2f}",
                ]
            )
        headings = ["", "ms", "quartiles", "× forward", "forward + backward parts"]
        title = f"## {found['title']}, batch {found['batch']}, {found['classes']} classes"
        parts += [title, markdown.table(headings, body)]
    return "\n\n".join(parts) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--networks", nargs="+", choices=DEPTHS, default=["resnet20", "resnet18"], help="networks to measure on")
    add("--batch", nargs="+", type=int, default=[64], help="batch sizes")
    add("--repeats", type=int, default=7, help="how often each row is timed")
    add("--seed", type=int, default=0, help="seed of weights, inputs and the order within a round")
    add("--threads", type=int, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for extent.json and extent.md")
    add("--render", type=Path, metavar="FILE", help="measure nothing; print the table of an extent.json")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
