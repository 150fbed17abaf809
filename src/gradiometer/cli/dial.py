"""`gradiometer dial`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE, MODEL
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.files import write_text

if TYPE_CHECKING:
    from gradiometer.detectors import Dial


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    model: str = option(MODEL)
    known: str = option(f"images that the model was trained for, best the training images: {FORMS}")
    held_out: str = option(f"others of the same kind; they are corrupted to stand for the unknown: {FORMS}")
    loss: float = option("how much AUROC may be lost against all parameters, as a share", 0.01)
    out: str | None = option("file for the whole curve as JSON", None)
    neighbours: int = option("k of the density of known images", 10)
    limit: int | None = option(LIMIT, None)
    model_options: Mapping[str, Any] | None = option("more about the model, such as '{classes: 10}'", None)
    device: str = option(DEVICE, "auto")
    batch_size: int = option("images that go through the model at once, also for the times", 128)
    memory: str | None = option("working memory of the gradients, such as 512MiB", None)


def run(options: Options, terminal: Terminal) -> None:
    """Compare the subsets and print the curve."""
    from gradiometer.detectors import dial

    if options.out is not None:
        artefacts.check_folder(Path(options.out))
    model = artefacts.load_model(options.model, options.model_options or {}, options.device)
    known = sources.load(options.known, options, limit=options.limit)
    held_out = sources.load(options.held_out, options, limit=options.limit, shape=known.images.shape[1:])
    terminal.note(f"reading {len(known):,} known and {len(held_out):,} held-out images with all parameters")
    found = dial(
        model,
        known,
        held_out,
        loss=options.loss,
        neighbours=options.neighbours,
        memory=options.memory,
        batch_size=options.batch_size,
    )
    if options.out is not None:
        write_text(Path(options.out), json.dumps(found.to_dict(), indent=1) + "\n")
    _show(found, terminal)
    words = shlex.join(("--parameters", *found.chosen.parameters, "--model", options.model))  # a shell expands *
    terminal.note(f"next: gradiometer fit --detector purview {words} ...")


def _show(found: Dial, terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    challenges = list(found.full.aurocs)
    table = Table(title="AUROC of held-out images against pseudo-challenges, known-only", title_justify="left")
    table.add_column("parameters", overflow="fold")
    for heading in ("tensors", "x forward", "mean", *challenges):
        table.add_column(heading, justify="right")
    for setting in (found.control, *found.settings):
        name = " ".join(setting.parameters) or "none: activations alone"
        figures = [f"{100 * value:.1f}" for value in (setting.auroc, *setting.aurocs.values())]
        style = "bold" if setting is found.chosen else None
        table.add_row(escape(name), str(setting.tensors), f"{setting.cost:.2f}", *figures, style=style)
    terminal.show(table)
    terminal.show(
        f"the cheapest within {100 * found.loss:g} points of all parameters: {' '.join(found.chosen.parameters)}"
    )


COMMAND = Command(
    name="dial",
    summary="choose how many parameters to read: quality against cost, from known images alone",
    purpose="""
        A reading of the last layers costs less than one of all, because its backward pass ends early. For more and more
        of a network's last modules, measure what a reading costs and how well it tells known images from the same
        images with noise, blur and other corruptions, and choose the cheapest that is about as good as all. The
        corruptions stand for the unknown only as far as it resembles them.
    """,
    examples="""
        # the shipped model, with a file for the whole curve
        gradiometer dial --model resnet20-cifar10 --known cifar10:train --held-out cifar10:test --out dial.json

        # a network of your own, where half a point of AUROC may be lost
        gradiometer dial --model runs/mine --known photos.npz:train --held-out photos.npz:val --loss 0.005
    """,
    options=Options,
    run=run,
)
