"""Measure what each of many readings of gradients would add to Guard as one more member, beside a forward-only control.

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
from adding.candidates import CANDIDATES, CONFIRMED, STEP, class_means, learn, predictions, with_cosines
from measuring import markdown
from measuring.environment import environment

from gradiometer.benchmarks.loading import TableSettings
from gradiometer.detectors.fusion import Fusion
from gradiometer.detectors.guard import guard_members
from gradiometer.detectors.members import Views

HALVES = (kinds.DESIGN, kinds.CONFIRM)
NORMS = "norms of gradients in the member `norms`"
"""What `Guard(gradients=True, smoothing=False)` does: no more members, but more columns for the last."""

GUARD = "Guard of seven"
BEST = "Guard of seven with the change under random signs"
"""The best forward-only fusion: with the control that adds most on the design half."""


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
        guards[gradients] = Fusion(guard_members(10, consistency=False), options.seed)
        guards[gradients].fit(_views(known, gradients), labels, sets.fit.groups.numpy())

    halves: dict[str, Any] = {}
    for half in options.halves:
        every = half == kinds.DESIGN
        shown = CANDIDATES if every else CONFIRMED
        arrays = {"": sets.known[half], **sets.challenges[half]}
        arrays = {n: with_cosines(readings.read(i, n or "known", every=every), means) for n, i in arrays.items()}
        with_out, with_in = (
            {n: guards[g].surprises(_views(a, g)).sum(1) for n, a in arrays.items()} for g in (False, True)
        )
        surprises = {c.name: [{n: f(a) for n, a in arrays.items()} for f in members[c.name]] for c in shown}
        best = {n: scores + surprises[STEP][1][n] for n, scores in with_out.items()}
        halves[half] = {
            "known_images": len(arrays[""]["logits"]),
            "bases": {
                GUARD: _base(with_out, surprises, options, with_in),
                BEST: _base(best, surprises, options),
            },
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
        "halves": halves,
    }


Scores = Mapping[str, np.ndarray]


def _base(
    base: Scores,
    surprises: Mapping[str, Sequence[Scores]],
    options: argparse.Namespace,
    with_norms: Scores | None = None,
) -> dict[str, Any]:
    """What each candidate adds to one forward-only fusion."""
    found = _areas(base, options)
    rows = [_row(name, base, pair, options) for name, pair in surprises.items()]
    if with_norms is not None:
        more = _areas(with_norms, options)
        each = {kind: figures.difference(more, found, [kind]) for kind in found}
        rows.append({"name": NORMS, "adds": figures.difference(more, found), "kinds": each})
    return {"mean": figures.mean(found), "kinds": {name: value for name, (value, _) in found.items()}, "rows": rows}


def _row(name: str, base: Scores, pair: Sequence[Scores], options: argparse.Namespace) -> dict[str, Any]:
    fused = [_areas({kind: scores + added[kind] for kind, scores in base.items()}, options) for added in pair]
    return figures.row(name, _areas(base, options), fused, [_areas(added, options) for added in pair])


def _areas(scores: Scores, options: argparse.Namespace) -> figures.Areas:
    others = {name: values for name, values in scores.items() if name}
    return figures.areas(scores[""], others, seed=options.seed, draws=options.draws)


def _views(arrays: Mapping[str, np.ndarray], gradients: bool) -> Views:
    layers, active = (_numbered(arrays, kind) for kind in ("layer ", "share "))
    norms = [arrays["activations"], *([arrays["norms"]] if gradients else [])]
    return Views(arrays["logits"], layers, np.concatenate(norms, axis=1), active)


def _numbered(arrays: Mapping[str, np.ndarray], kind: str) -> tuple[np.ndarray, ...]:
    names = (name for name in arrays if name.startswith(kind))
    return tuple(arrays[name] for name in sorted(names, key=lambda name: int(name.removeprefix(kind))))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    settings = document["settings"]
    about = (
        f"{settings['model']} (weights {settings['weights_sha256'][:12]}), known: {settings['known']}. Members are "
        f"fitted on {settings['fit_images']:,} known images, and {settings['images']} of each kind are scored. AUROC "
        "in percent; differences are paired, with 95 % bootstrap intervals over images "
        f"({settings['draws']} resamples)."
    )
    parts = [
        "# What readings of gradients add to Guard",
        markdown.environment_text(document["environment"]),
        about,
    ]
    for half, found in document["halves"].items():
        kinds_of = next(iter(found["bases"].values()))["kinds"]
        parts.append(f"## {half.capitalize()} half: {len(kinds_of)} kinds, {found['known_images']:,} known images")
        parts += [_section(name, base) for name, base in found["bases"].items()]
    return "\n\n".join(parts) + "\n"


def _section(name: str, base: Mapping[str, Any]) -> str:
    names = list(base["kinds"])
    table = markdown.table(
        ["one more member", "alone", "control alone", "member adds", "control adds", "member − control"],
        [_cells(row) for row in base["rows"]],
    )
    each = [[name, *(f"{100 * base['kinds'][kind]:.1f}" for kind in names)]]
    each += [[row["name"], *(f"{100 * row['kinds'][kind]['value']:+.1f}" for kind in names)] for row in base["rows"]]
    parts = [
        f"### {name}",
        f"{100 * base['mean']:.1f} on average. **Bold**: both the member and its lead over the control are above zero.",
        table,
        "What is added, kind by kind:",
        markdown.table(["one more member", *names], each),
    ]
    return "\n\n".join(parts)


def _cells(row: Mapping[str, Any]) -> list[str]:
    name = f"**{row['name']}**" if "alone" in row and figures.adds(row) else row["name"]
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
