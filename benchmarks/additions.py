"""Measure what each of many readings of gradients would add to Guard as a sixth member, beside a forward-only control.

    python benchmarks/additions.py --data-root FOLDER --work WORK --output results

`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adding import figures, kinds, reading
from adding.candidates import CANDIDATES, Candidate, class_means, learn, predictions, with_cosines
from measuring import markdown
from measuring.environment import environment

from gradiometer.benchmarks.loading import TableSettings
from gradiometer.detectors.fusion import Fusion
from gradiometer.detectors.guard import guard_members
from gradiometer.detectors.members import Views

HALVES = (kinds.DESIGN, kinds.CONFIRM)
NORMS = "norms of gradients in the member `norms`"
"""What `Guard(gradients=True)` does: no sixth member, but more columns for the fifth."""

TOGETHER = "those that add on the design half, together"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(json.loads(options.render.read_text(encoding="utf-8"))), end="")
        return 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    document = measure(options)
    if options.output is not None:
        markdown.write(options.output, options.name, document, render(document))
    print(render(document), end="")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Read all images, fit all members, and compare them."""
    settings = TableSettings(
        data_root=options.data_root,
        model=options.model,
        known=options.known,
        fit_images=options.fit_images,
        out=options.work,
        seed=options.seed,
    )
    sets = kinds.load(settings, options.images, options.halves, _say)
    readings = reading.Readings(sets.model, options.work / "readings", _say)
    apart = Fusion((), options.seed).apart(sets.fit.groups.numpy())
    readings.learn(sets.fit.select(np.flatnonzero(~apart)))
    known = readings.read(sets.fit, "known images to fit")
    means = class_means({name: values[~apart] for name, values in known.items()})
    known = with_cosines(known, means)
    labels = predictions(known) if sets.fit.labels is None else sets.fit.labels.numpy()
    members = {c.name: [learn(c.density, s, known, labels, apart) for s in (c.gradient, c.control)] for c in CANDIDATES}
    guards = {}
    for gradients in (False, True):
        guards[gradients] = Fusion(guard_members(10), options.seed)
        guards[gradients].fit(_views(known, gradients), labels, sets.fit.groups.numpy())

    halves: dict[str, Any] = {}
    chosen: list[Candidate] = []
    for half in options.halves:
        arrays = {"": with_cosines(readings.read(sets.known[half], f"known images, {half}"), means)}
        for name, images in sets.challenges[half].items():
            arrays[name] = with_cosines(readings.read(images, name), means)
        with_out, with_in = (
            {n: guards[g].surprises(_views(a, g)).sum(1) for n, a in arrays.items()} for g in (False, True)
        )
        surprises = {c.name: [{n: f(a) for n, a in arrays.items()} for f in members[c.name]] for c in CANDIDATES}
        rows = _rows(with_out, with_in, surprises, options)
        if half == kinds.DESIGN:
            chosen = [c for c, row in zip(CANDIDATES, rows, strict=False) if figures.adds(row)]
        if chosen:
            both = [[surprises[c.name][side] for c in chosen] for side in (0, 1)]
            rows.append(_row(TOGETHER, with_out, both, options))
        guard = _areas(with_out, options)
        halves[half] = {
            "known_images": len(arrays[""]["logits"]),
            "guard": {"mean": figures.mean(guard), "kinds": {name: value for name, (value, _) in guard.items()}},
            "rows": rows,
        }
    return {
        "schema": 1,
        "environment": environment({"torch", "gradiometer"}),
        "settings": {
            "model": options.model,
            "weights_sha256": readings.weights_sha256,
            "known": options.known,
            "fit_images": len(sets.fit),
            "images": options.images,
            "seed": options.seed,
            "draws": options.draws,
        },
        "chosen": [candidate.name for candidate in chosen],
        "halves": halves,
    }


Scores = Mapping[str, np.ndarray]


def _rows(
    guard: Scores, guard_with: Scores, surprises: Mapping[str, Sequence[Scores]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    rows = [_row(name, guard, [[scores] for scores in pair], options) for name, pair in surprises.items()]
    more = figures.difference(_areas(guard_with, options), _areas(guard, options))
    kinds_of = {n: figures.difference(_areas(guard_with, options), _areas(guard, options), [n]) for n in guard if n}
    return [*rows, {"name": NORMS, "adds": more, "kinds": kinds_of}]


def _row(
    name: str, guard: Scores, added: Sequence[Sequence[Scores]], options: argparse.Namespace
) -> dict[str, Any]:
    def fused(members: Sequence[Scores]) -> figures.Areas:
        return _areas({kind: figures.total([scores, *(m[kind] for m in members)]) for kind, scores in guard.items()}, options)

    alone = [_areas({kind: figures.total([m[kind] for m in members]) for kind in guard}, options) for members in added]
    return figures.row(name, _areas(guard, options), fused(added[0]), fused(added[1]), alone)


def _areas(scores: Scores, options: argparse.Namespace) -> figures.Areas:
    others = {name: values for name, values in scores.items() if name}
    return figures.areas(scores[""], others, seed=options.seed, draws=options.draws)


def _views(arrays: Mapping[str, np.ndarray], gradients: bool) -> Views:
    layers = sorted((name for name in arrays if name.startswith("layer ")), key=lambda name: int(name.split()[1]))
    norms = [arrays["activations"], *([arrays["norms"]] if gradients else [])]
    return Views(arrays["logits"], tuple(arrays[name] for name in layers), np.concatenate(norms, axis=1))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    settings = document["settings"]
    parts = [
        "# What readings of gradients add to Guard",
        markdown.environment_text(document["environment"]),
        f"{settings['model']} (weights {settings['weights_sha256'][:12]}), known: {settings['known']}. Members are fitted on "
        f"{settings['fit_images']:,} known images, {settings['images']} images of each kind are scored. AUROC in percent; "
        f"differences are paired, with 95 % bootstrap intervals over images ({settings['draws']} resamples).",
    ]
    for half, found in document["halves"].items():
        parts.append(_half(half, found, document["chosen"]))
    return "\n\n".join(parts) + "\n"


def _half(half: str, found: Mapping[str, Any], chosen: Sequence[str]) -> str:
    guard = found["guard"]
    table = markdown.table(
        ["sixth member", "alone", "control alone", "Guard + member", "Guard + control", "member − control"],
        [_cells(row, row["name"] in chosen) for row in found["rows"]],
    )
    names = list(guard["kinds"])
    each = [["Guard itself", *(f"{100 * guard['kinds'][name]:.1f}" for name in names)]]
    each += [[row["name"], *(f"{100 * row['kinds'][n]['value']:+.1f}" for n in names)] for row in found["rows"]]
    return "\n\n".join(
        [
            f"## {half.capitalize()} half: {len(names)} kinds, {found['known_images']:,} known images",
            f"Guard, forward-only: {100 * guard['mean']:.1f} on average.",
            table,
            "What is added, kind by kind:",
            markdown.table(["sixth member", *names], each),
        ]
    )


def _cells(row: Mapping[str, Any], chosen: bool) -> list[str]:
    name = f"**{row['name']}**" if chosen else row["name"]
    alone = [f"{100 * row[key]:.1f}" if key in row else "–" for key in ("alone", "control_alone")]
    return [name, *alone, *(_signed(row.get(key)) for key in ("adds", "control_adds", "beyond_control"))]


def _signed(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "–"
    value, low, high = (100 * interval[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} ({low:.2f} to {high:.2f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-root", type=Path, default=Path(), metavar="DIR", help="folder with the data sets, NAME.npz each")
    add("--work", type=Path, default=Path("additions"), metavar="DIR", help="folder for readings and attacked images")
    add("--model", default="resnet20-cifar10", help="what gradiometer.models.load takes")
    add("--known", default="cifar10", help="what it was trained on")
    add("--fit-images", type=int, default=2500, help="known images that members are fitted on")
    add("--images", type=int, default=300, help="images of each kind")
    add("--halves", nargs="+", choices=HALVES, default=list(HALVES), help="which kinds")
    add("--draws", type=int, default=500, help="bootstrap resamples")
    add("--seed", type=int, default=0, help="of divisions and bootstrap")
    add("--threads", type=int, help="threads of PyTorch; its own choice when absent")
    add("--output", type=Path, metavar="DIR", help="folder for the record and its table")
    add("--name", default="additions", help="their name")
    add("--render", type=Path, metavar="FILE", help="measure nothing; print the table of a record")
    return parser


if __name__ == "__main__":
    sys.exit(main())
