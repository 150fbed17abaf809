"""`gradiometer plan`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradiometer import given
from gradiometer.cli import artefacts
from gradiometer.cli.artefacts import DEVICE, MODEL
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.gradients.plan import Plan

_PATHS = {
    "outer": "norm of the input times norm of the error",
    "gram": "inner products of inputs and of errors, position by position",
    "offsets": "one matrix product for each offset of the kernel",
    "groups": "one grouped convolution for the whole batch",
    "kernel": "a kernel in C that keeps a tile of each sample's gradient in registers",
    "winograd": "the same with a quarter of the products, by Winograd's minimal filtering",
    "pixels": "a convolution of single pixels, as a linear layer",
    "sum": "a sum over positions",
    "rows": "rows of the table that were looked up",
    "explicit": "the gradient of each sample, a few samples at a time",
    "vmap": "a vector-Jacobian product of this one operation for all samples at once",
    "folded": "taken from the gradients behind a batch norm that was folded into the layer before",
    "through its use": "the gradient of what is computed from it, led back through that computation",
    "loop": "one backward pass for each sample: exact and slow",
    "unused": "the outputs do not depend on it",
}
_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the command."""

    model: str = option(MODEL)
    shape: tuple[int, ...] = option(
        "channels, height and width of an image; those of the model when it states them", ()
    )
    batch_size: int = option("images at once for the time", 32)
    parameters: tuple[str, ...] = option("names of the parameters to read, * and ? allowed", ("*",))
    memory: str | None = option("working memory of the gradients, such as 512MiB", None)
    model_options: Mapping[str, Any] | None = option("more about the model, such as '{classes: 10}'", None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Print the plan and measure it."""
    import torch

    from gradiometer.gradients import Gradiometer

    given.whole("batch_size", options.batch_size)
    shape = tuple(options.shape) or _shape(options.model)
    if any(side < 1 for side in shape):
        raise InputError(f"shape is {shape}; give numbers of 1 or more")
    model = artefacts.load_model(options.model, options.model_options or {}, options.device)
    meter = Gradiometer(model, parameters=options.parameters, memory=options.memory)
    device = next(model.parameters()).device
    images = torch.rand(options.batch_size, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    _show(meter.plan(images), terminal)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    seconds = {
        "forward pass": _median(forward, device.type),
        "reading": _median(lambda: meter.squared_norms(images, activations=True), device.type),
    }
    count = len(images)
    terminal.show(
        "; ".join(f"{what} {1e3 * value / count:.3g} ms an image" for what, value in seconds.items())
        + f" ({count} images at once, on {device}); {meter.needs(images).sample / 2**20:.3g} MiB an image"
    )


def _shape(spec: str) -> tuple[int, ...]:
    from gradiometer import models
    from gradiometer.errors import ModelError

    try:
        header = models.header(spec)
    except ModelError as error:
        raise InputError(f"{spec} does not say what images it takes; add --shape, such as --shape 3 224 224") from error
    return header.channels, header.size, header.size


def _show(plan: Plan, terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{len(plan.lines)} parameter tensors", title_justify="left")
    table.add_column("parameter", overflow="fold")
    table.add_column("shape")
    table.add_column("uses", justify="right")
    table.add_column("path", overflow="fold")
    for line in plan.lines:
        shape = " x ".join(map(str, line.shape)) or "scalar"
        table.add_row(escape(line.parameter), shape, str(line.uses), escape(line.path))
    terminal.show(table)
    used = {word.strip(",") for line in plan.lines for word in line.path.split()}
    for path, meaning in _PATHS.items():
        if path in used:
            terminal.show(f"{path}: {meaning}")


def _median(work: Callable[[], object], device: str) -> float:
    """Median time of a few runs, after one that may compile and allocate."""
    import torch

    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        work()
        if device != "cpu":
            torch.accelerator.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


COMMAND = Command(
    name="plan",
    summary="show how each parameter of a model is read, and what it costs",
    purpose="""
        For each parameter tensor of a model, print the closed form with which the statistic of its gradient is
        computed, and measure what a reading costs beside a forward pass. Every form is exact, and checked against the
        loop over single samples. A parameter on the path loop is right but slow: its layer has no rule yet.
    """,
    examples="""
        # the shipped model
        gradiometer plan --model resnet20-cifar10

        # a network of torchvision, untrained
        gradiometer plan --model torchvision:resnet18 --shape 3 224 224 --batch-size 8
    """,
    options=Options,
    run=run,
)
