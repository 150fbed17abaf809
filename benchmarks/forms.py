"""Measure every exact form of a convolution's squared norms against the ordinary batched weight gradient.

    python benchmarks/forms.py --output results
    python benchmarks/forms.py --fit

`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import fitting, markdown, timing
from measuring.environment import environment
from measuring.layers import LAYERS, Layer, forms_of
from measuring.options import positive

from gradiometer.gradients.rules import costs

ORDINARY = "ordinary"

#: Largest relative difference between two exact forms in float32.
TOLERANCE = 1e-3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    rows, images = [], []
    for batch in options.batch:
        for layer in [layer for layer in LAYERS if options.only in str(layer) or options.only in layer.network]:
            print(f"{layer}, batch {batch}", file=sys.stderr, flush=True)
            rows.append(_row(layer, batch, options))
            images += _image_rows(layer, batch, options)
    document: dict[str, Any] = {
        "schema": 2,
        "environment": environment({"torch", "gradiometer"}),
        "settings": {"repeats": options.repeats, "seed": options.seed, "patience": options.patience},
        "constants": fitting.constants(),
        "rows": rows,
        "images": images,
        "fit": _fit(rows, images) if options.fit else None,
    }
    if options.output is not None:
        markdown.write(options.output, "forms", document, render(document))
    print(render(document), end="")
    return 0


def _row(layer: Layer, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all forms of one layer."""
    inputs, errors = layer.draw(batch, options.seed)
    forms = forms_of(layer, inputs, errors)
    predicted = {form: batch * costs.seconds(form, task) for form, task in forms.tasks.items()}
    calls: dict[str, timing.Call] = {ORDINARY: layer.ordinary(inputs, errors)}
    calls[ORDINARY]()
    reference, differences = None, {}
    for form, call in forms.calls.items():
        if predicted.get(form, 0.0) > options.patience and form != forms.chosen:
            continue
        norms = call().double()  # also the warm-up
        reference = norms if reference is None else reference
        differences[form] = ((norms - reference).abs() / reference).max().item()
        calls[form] = call
    taken = timing.interleaved(calls, dict.fromkeys(calls, options.repeats), options.seed)
    return {
        "layer": str(layer),
        "size": asdict(layer),
        "batch": batch,
        "seconds": taken,
        "chosen": forms.chosen,
        "tasks": {form: asdict(task) for form, task in forms.tasks.items()},
        "predicted": predicted,
        "differences": differences,
        **_judged({form: timing.quartiles(times)[1] for form, times in taken.items()}, forms.chosen),
    }


def _image_rows(layer: Layer, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure both forms of the gradient of a layer's images; nothing where there is one alone."""
    inputs, errors = layer.draw(batch, options.seed)
    calls = layer.image_gradients(inputs, errors)
    if not calls:
        return []
    found = {form: call().double() for form, call in calls.items()}  # also the warm-up
    difference = (found["winograd"] - found["native"]).norm() / found["native"].norm()
    taken = timing.interleaved(calls, dict.fromkeys(calls, options.repeats), options.seed)
    medians = {form: timing.quartiles(times)[1] for form, times in taken.items()}
    size = (batch, (layer.inputs, layer.outputs), (layer.size, layer.size))
    chosen = "winograd" if costs.tiled_gradient(*size) else "native"
    return [
        {
            "layer": str(layer),
            "batch": batch,
            "seconds": taken,
            "medians": medians,
            "chosen": chosen,
            "size": size,
            "difference": difference.item(),
            "regret": medians[chosen] / min(medians.values()),
        }
    ]


def _judged(medians: Mapping[str, float], chosen: str) -> dict[str, Any]:
    """The best form, and what the chosen one costs in relation to it and to the ordinary weight gradient."""
    best = min((form for form in medians if form != ORDINARY), key=lambda form: medians[form])
    return {
        "medians": dict(medians),
        "best": best,
        "regret": medians[chosen] / medians[best],
        "to_ordinary": medians[chosen] / medians[ORDINARY],
    }


def _fit(rows: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fit the constants to the rows for which the cost model decides, and say what the new ones would choose."""
    readings = [
        fitting.Reading(partial(costs.seconds, form, costs.Task(**task)), row["medians"][form] / row["batch"])
        for row in rows
        for form, task in row["tasks"].items()
        if form in row["medians"]
    ]
    readings += [
        fitting.Reading(partial(costs.image_seconds, form, *row["size"]), seconds)
        for row in images
        for form, seconds in row["medians"].items()
    ]
    found = fitting.fit(readings)
    with fitting.using(found.after):
        choices = [_choice(row) for row in rows]
    regrets = [row["medians"][form] / row["medians"][row["best"]] for row, form in zip(rows, choices, strict=True)]
    return {**asdict(found), "choices": choices, "regrets": regrets}


def _choice(row: Mapping[str, Any]) -> str:
    """What the cost model chooses as it stands; the rule's own choice where the model is not asked."""
    asked = {form: costs.Task(**task) for form, task in row["tasks"].items() if form in row["medians"]}
    if not asked:
        return str(row["chosen"])
    return str(min(asked, key=lambda form: costs.seconds(form, asked[form])))


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    parts = ["# Exact forms of convolutions", markdown.environment_text(document["environment"])]
    parts.append(
        f"Milliseconds for one batch, medians of {document['settings']['repeats']}. **Bold**: the form that the "
        "instrument chooses. Regret: its time over that of the best form."
    )
    forms = list(dict.fromkeys(form for row in document["rows"] for form in row["medians"]))
    headings = ["layer", "batch", *forms, "best", "regret", "× ordinary", "predicted"]
    parts.append(markdown.table(headings, [_cells(row, forms) for row in document["rows"]]))
    parts.append(_summary([row["regret"] for row in document["rows"]], "The constants as they are"))
    if document.get("images"):
        parts += _images(document["images"])
    if document["fit"] is not None:
        parts.append(_fitted(document["fit"]))
    return "\n\n".join(parts) + "\n"


def _cells(row: Mapping[str, Any], forms: Sequence[str]) -> list[str]:
    times = []
    for form in forms:
        text = markdown.number(1e3 * row["medians"][form]) if form in row["medians"] else "–"
        times.append(f"**{text}**" if form == row["chosen"] else text)
    predicted = row["predicted"].get(row["chosen"])
    return [
        row["layer"],
        str(row["batch"]),
        *times,
        row["best"],
        f"{row['regret']:.2f}",
        f"{row['to_ordinary']:.2f}",
        "–" if predicted is None else markdown.number(1e3 * predicted),
    ]


def _images(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The gradients of images: a heading, a table, and how well the model chooses."""
    cells = []
    for row in rows:
        times = {form: markdown.number(1e3 * seconds) for form, seconds in row["medians"].items()}
        times[row["chosen"]] = f"**{times[row['chosen']]}**"
        ratio = row["medians"]["winograd"] / row["medians"]["native"]
        cells.append(
            [
                row["layer"],
                str(row["batch"]),
                *times.values(),
                f"{ratio:.2f}",
                f"{row['regret']:.2f}",
                f"{row['difference']:.0e}",
            ]
        )
    headings = ["layer", "batch", "native", "winograd", "winograd / native", "regret", "difference"]
    return [
        "## Gradients of the images",
        markdown.table(headings, cells),
        _summary([row["regret"] for row in rows], "The constants as they are"),
    ]


def _summary(regrets: Sequence[float], of: str) -> str:
    mean = sum(regrets) / len(regrets)
    right = sum(regret == 1.0 for regret in regrets)
    return (
        f"{of}: the best form for {right} of {len(regrets)} layers, mean regret {mean:.3f}, largest {max(regrets):.2f}."
    )


def _fitted(fit: Mapping[str, Any]) -> str:
    lines = [f"{name} = {value:.3g}  # was {fit['before'][name]:.3g}" for name, value in fit["after"].items()]
    error = (
        f"Median factor between prediction and time: {fit['error_before']:.2f}, after the fit {fit['error_after']:.2f}."
    )
    return "\n".join(["```python", *lines, "```", "", _summary(fit["regrets"], "Fitted"), error])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--batch", nargs="+", type=positive, default=[32, 64], help="batch sizes")
    add("--only", default="", metavar="TEXT", help="layers or networks whose name contains this")
    add("--repeats", type=positive, default=9, help="how often each form is timed")
    add("--seed", type=int, default=0, help="seed of the inputs and of the order within a round")
    add("--threads", type=positive, help="threads of PyTorch; its own choice when absent")
    add("--patience", type=float, default=2.0, help="leave out forms that the cost model expects to take more seconds")
    add("--fit", action="store_true", help="fit the constants of the cost model to the measured times and print them")
    add("--output", type=Path, metavar="DIR", help="folder for forms.json and forms.md")
    add("--render", type=Path, metavar="FILE", help="measure nothing; print the table of a forms.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
