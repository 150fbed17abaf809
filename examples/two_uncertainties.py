"""Two kinds of uncertainty: what more data cannot remove, and what they can.

    python examples/two_uncertainties.py --out lecture

Data with noise in one region, without noise in another, and none beyond. Classes: the entropy of the mean prediction
(total) is the mean entropy of the members (aleatoric: they agree that it is a toss-up) plus their mutual information
(epistemic: they disagree). Numbers: Var(y) is the mean of the variances that the members predict plus the variance of
their means.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import drawing
import ensembles
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from gradiometer.detectors import DeepEnsemble, uncertainty
from gradiometer.detectors.uncertainty import Uncertainty
from gradiometer.reports import figures

REGIONS = {"noisy": (-4.0, 0.0), "clear": (0.0, 3.0), "empty": (3.0, 8.0)}
"""From where to where along the horizontal axis; there are no data in the last one."""

FLIPPED = 0.3
"""Share of the labels in the noisy region that are wrong."""

NOISE = {"noisy": 0.5, "clear": 0.05}
"""Standard deviation of the numbers, in units of y."""

SMALLEST = 1e-4
"""Variance below which no member goes, in squared units of y: without it a point that is fitted exactly has none."""

HEIGHT = 3.0
POINTS, MEMBERS = 200, 10


def where(region: str, count: int, draw: torch.Generator) -> Tensor:
    """Places (N,) drawn evenly from a region."""
    low, high = REGIONS[region]
    return low + (high - low) * torch.rand(count, generator=draw)


def classes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points of the plane (2 N, 2), N in each region with data, and whether they lie above or below 0; some wrongly."""
    draw = torch.Generator().manual_seed(seed)
    across = torch.cat([where(region, count, draw) for region in ("noisy", "clear")])
    up = HEIGHT * (2 * torch.rand(2 * count, generator=draw) - 1)
    labels = (up > 0).long()
    wrong = (torch.rand(2 * count, generator=draw) < FLIPPED) & (across < REGIONS["noisy"][1])
    return torch.stack([across, up], 1), torch.where(wrong, 1 - labels, labels)


def numbers(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Places (2 N, 1), and numbers (2 N,) around a sine."""
    draw = torch.Generator().manual_seed(seed)
    across = torch.cat([where(region, count, draw) for region in NOISE])
    noise = torch.tensor([*NOISE.values()]).repeat_interleave(count)
    return across[:, None], torch.sin(across) + noise * torch.randn(2 * count, generator=draw)


def of_classes(count: int, places: Tensor, members: int, steps: int) -> dict[str, np.ndarray]:
    """The parts of the uncertainty about the class at some places (B, 2), in nats, by name."""
    points, labels = classes(count)

    def loss(network: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(network(points), labels, reduction="sum")

    trained = [ensembles.member(seed, 2, 2, loss, steps) for seed in range(members)]
    # A detector gives one of the parts as its score: so the same networks three times.
    return {part: np.asarray(DeepEnsemble(trained, part=part).predict(places)) for part in uncertainty.KINDS}


def of_numbers(count: int, places: Tensor, members: int, steps: int) -> tuple[np.ndarray, Uncertainty]:
    """The mean prediction at some places (B, 1), and the parts of its variance, in squared units of y."""
    across, values = numbers(count)

    def loss(network: nn.Module) -> Tensor:
        means, variances = predicted(network, across)
        # Minus the log likelihood of a normal distribution, but for a constant.
        return 0.5 * (variances.log() + (values - means).square() / variances).sum()

    trained = [ensembles.member(seed, 1, 2, loss, steps) for seed in range(members)]
    with torch.no_grad():
        means, variances = torch.stack([torch.stack(predicted(each, places)) for each in trained], 1).numpy()
    return means.mean(0), uncertainty.of_numbers(means, variances)


def predicted(network: nn.Module, places: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (B,) that a network with two outputs predicts at places (B, 1)."""
    mean, raw = network(places).unbind(1)
    return mean, nn.functional.softplus(raw) + SMALLEST


def by_region(across: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Mean over the places of each region."""
    return {name: float(values[(low <= across) & (across < high)].mean()) for name, (low, high) in REGIONS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train two ensembles, draw both kinds of uncertainty, and write their means in each region."""
    options = drawing.parser(__doc__).parse_args(arguments)
    count, resolution, members, steps = (40, 24, 4, 40) if options.quick else (POINTS, 72, MEMBERS, 100)
    low, high = REGIONS["noisy"][0], REGIONS["empty"][1]
    line = torch.linspace(low, high, 4 * resolution)
    plane = torch.cartesian_prod(torch.linspace(-HEIGHT, HEIGHT, resolution), torch.linspace(low, high, resolution))
    plane = plane.flip(1)
    maps = of_classes(count, plane, members, steps)
    mean, variance = of_numbers(count, line[:, None], members, steps)
    lines = {part: getattr(variance, part) for part in uncertainty.KINDS}
    record = {
        "settings": {
            "members": members,
            "steps": steps,
            "points_in_each_region": count,
            "flipped": FLIPPED,
            "noise": NOISE,
        },
        "classes": {part: by_region(plane[:, 0].numpy(), maps[part]) for part in maps},
        "numbers": {part: by_region(line.numpy(), lines[part]) for part in lines},
        "largest_difference_of_total_and_parts": max(
            float(np.abs(each["total"] - each["aleatoric"] - each["epistemic"]).max()) for each in (maps, lines)
        ),
    }
    with figures.drawing():
        figure = draw(count, maps, line.numpy(), mean, lines)
    title = "Total, aleatoric and epistemic uncertainty about classes in the plane and about numbers on a line"
    drawing.write(options.out, "two_uncertainties", figure, title, record)
    return 0


def draw(
    count: int, maps: dict[str, np.ndarray], line: np.ndarray, mean: np.ndarray, lines: dict[str, np.ndarray]
) -> Figure:
    """Three maps for the classes; the numbers with two standard deviations, and the parts of their variance."""
    figure = figures.new_figure(8.2, 5.0)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1))
    points, labels = classes(count)
    resolution = int(len(maps["total"]) ** 0.5)
    extent = (line[0], line[-1], -HEIGHT, HEIGHT)
    axes = top.subplots(1, 3, sharey=True)
    for ax, (part, found) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(
            found.reshape(resolution, resolution),
            origin="lower",
            extent=extent,
            cmap=drawing.HEAT,
            vmin=0,
            vmax=np.log(2),
            aspect="auto",
            interpolation="none",
        )
        ensembles.scatter(ax, points, labels)
        ax.set_title(part, fontsize=9, loc="left")
        ax.set_yticks([])
        _regions(ax, low=-HEIGHT)
    top.colorbar(image, ax=axes, label="nats", aspect=12)
    left, right = bottom.subplots(1, 2)
    spread = 2 * np.sqrt(lines["total"])
    across, values = numbers(count)
    left.fill_between(line, mean - spread, mean + spread, color=drawing.BLUE, alpha=0.25, linewidth=0)
    left.plot(line, mean, color=drawing.BLUE, label="mean, and 2 standard deviations")
    left.scatter(across[:, 0], values, s=4, color=figures.INK, alpha=0.5, linewidths=0, label="data", rasterized=True)
    left.set(ylim=(-6, 3), ylabel="y")
    left.legend(frameon=False, fontsize=8, loc="lower left")
    for part, colour, style in (
        ("total", figures.INK, ":"),
        ("aleatoric", drawing.ORANGE, "--"),
        ("epistemic", drawing.BLUE, "-"),
    ):
        right.plot(line, lines[part], style, color=colour, label=part)
    right.set(yscale="log", ylabel="variance, squared units of y")
    right.legend(frameon=False, fontsize=8, loc="lower right")
    for ax in (left, right):
        _regions(ax, low=ax.get_ylim()[0])
    return figure


def _regions(ax: Axes, low: float) -> None:
    """Name the regions below an axis, and divide them by lines."""
    ax.set_xticks([sum(bounds) / 2 for bounds in REGIONS.values()], [*REGIONS])
    ax.tick_params(axis="x", length=0)
    for end in (REGIONS["clear"][0], REGIONS["empty"][0]):
        ax.axvline(end, color=drawing.GREY, linewidth=0.8, linestyle="--")
    ax.set_ylim(bottom=low)
    ax.set_xlim(REGIONS["noisy"][0], REGIONS["empty"][1])


if __name__ == "__main__":
    sys.exit(main())
