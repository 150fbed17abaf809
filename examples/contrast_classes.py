"""Contrast classes on a toy manifold: what it would take to call a point each of the classes.

    python examples/contrast_classes.py --out lecture

A small network learns four blobs in the plane. For a few probes: the squared norm of the gradient of the
cross-entropy against every class, "why this one rather than that one?" (Prabhushankar and AlRegib, "Introspective
Learning", NeurIPS 2022), and the decision boundaries after one step towards a class. For the whole plane: the norm
for the all-ones label, and on which side of it the unknown lies with each objective.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence

import drawing
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gradiometer import ConfoundingLabel, ContrastClasses, Gradiometer, PseudoLabel
from gradiometer.gradients import Objective
from gradiometer.reports import figures

CENTRES = torch.tensor([[-2.0, 2.0], [2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]])
SPREAD = 0.6
EDGE = 6.0
"""The plane goes from -EDGE to EDGE both ways."""

FAR = 3.0
"""A point is unknown when it is so many standard deviations of a blob away from every centre, or more."""

PROBES = {"known": (-2.0, 2.0), "between": (0.0, 0.0), "far": (-5.0, 0.0)}
STEP = 0.1
"""Learning rate of the one step towards a class."""

_PAPER = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7}

OBJECTIVES: Mapping[str, Objective] = {
    "all ones, logits": ConfoundingLabel(),
    "all ones, softmax": ConfoundingLabel(reading="softmax"),
    "contrast classes, sum": ContrastClasses(),
    "predicted class": PseudoLabel(),
}


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (4 N, 2), N around each centre, and their classes."""
    draw = torch.Generator().manual_seed(seed)
    classes = torch.arange(len(CENTRES)).repeat_interleave(count)
    return CENTRES[classes] + SPREAD * torch.randn(len(classes), 2, generator=draw), classes


def learnt(points: Tensor, classes: Tensor, steps: int = 300) -> nn.Module:
    """A perceptron 2-32-32-4 that has learnt the blobs."""
    torch.manual_seed(0)
    hidden = (nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    network = nn.Sequential(*hidden, nn.Linear(32, len(CENTRES)))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(points), classes).backward()
        optimizer.step()
    return network.eval()


def norms(network: nn.Module, objective: Objective, places: Tensor) -> np.ndarray:
    """Squared norm of the gradient of all parameters together at each place (B,), or (B, C) for contrast classes."""
    return Gradiometer(network, objective).squared_norms(places).values.sum(-1).numpy()


def towards(network: nn.Module, probe: Tensor, target: int) -> nn.Module:
    """A copy of the network after one step of gradient descent that calls the probe (1, 2) the target class."""
    gradients = Gradiometer(network, ContrastClasses((target,))).gradients(probe)
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            parameter.sub_(STEP * gradients[name][0, 0])
    return moved


def difference_of_sums(network: nn.Module, places: Tensor) -> float:
    """Largest relative difference between the sum of the gradients of all classes and the gradient for all ones.

    They are the same tensor by tensor, in the softmax reading: a gradient is linear in the label. A norm is not.
    """
    each = Gradiometer(network, ContrastClasses()).gradients(places)
    ones = Gradiometer(network, ConfoundingLabel(reading="softmax")).gradients(places)
    return max(float((each[name].sum(1) - ones[name]).abs().max() / ones[name].abs().max()) for name in ones)


def grid(resolution: int) -> Tensor:
    """Places (resolution², 2) over the plane, row by row from the bottom."""
    axis = torch.linspace(-EDGE, EDGE, resolution)
    return torch.cartesian_prod(axis, axis).flip(1)


def unknown(places: Tensor) -> dict[str, np.ndarray]:
    """Which places (B,) are far from all blobs: between them, or beyond."""
    far = (torch.cdist(places, CENTRES) >= FAR * SPREAD).all(1)
    inside = (places.abs() <= CENTRES.abs().max()).all(1)
    return {"between": (far & inside).numpy(), "beyond": (far & ~inside).numpy()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the network, draw probes, boundaries and maps, and write norms and the side of the unknown."""
    options = drawing.parser(__doc__).parse_args(arguments)
    resolution, steps = (24, 100) if options.quick else (80, 300)
    network = learnt(*blobs(200, seed=0), steps)
    known, classes = blobs(250, seed=1)
    places = grid(resolution)
    side, maps = {}, {}
    for name, objective in OBJECTIVES.items():
        of_known, of_plane = (norms(network, objective, each).reshape(len(each), -1).sum(1) for each in (known, places))
        side[name] = {
            where: float(roc_auc_score(np.repeat([0, 1], [len(known), of.sum()]), np.append(of_known, of_plane[of])))
            for where, of in unknown(places).items()
        }
        maps[name] = np.log10(of_plane + 1e-20)
    probes = torch.tensor([*PROBES.values()])
    contrasts = norms(network, ContrastClasses(), probes)
    with torch.no_grad():
        confidence = network(probes).softmax(1)
        accuracy = float((network(known).argmax(1) == classes).float().mean())
    record = {
        "settings": {"classes": len(CENTRES), "spread": SPREAD, "far": FAR, "step": STEP, "steps": steps, "seed": 0},
        "accuracy": accuracy,
        "squared_norm_for_each_class": dict(zip(PROBES, contrasts.tolist(), strict=True)),
        "probabilities": dict(zip(PROBES, confidence.tolist(), strict=True)),
        "auroc_of_a_larger_norm_when_unknown": side,
        "difference_of_the_sum_of_classes_and_all_ones": difference_of_sums(network, known[:50]),
    }
    with figures.drawing():
        figure = draw(network, contrasts, maps, side, resolution)
    title = "Squared gradient norms for every class at three probes, boundaries after one step, and maps of three norms"
    drawing.write(options.out, "contrast_classes", figure, title, record)
    return 0


def draw(
    network: nn.Module,
    contrasts: np.ndarray,
    maps: Mapping[str, np.ndarray],
    side: Mapping[str, Mapping[str, float]],
    resolution: int,
) -> Figure:
    """Above: probes, their norms, and boundaries after a step. Below: maps."""
    figure = figures.new_figure(8.8, 5.8)
    axes = figure.subplots(2, 3, height_ratios=(1, 1.1))
    points, classes = blobs(60, seed=2)
    for ax in (axes[0, 0], axes[0, 2]):
        for number, (colour, marker) in enumerate(zip(drawing.COLOURS, drawing.MARKERS, strict=True)):
            of = points[classes == number]
            ax.scatter(of[:, 0], of[:, 1], s=7, marker=marker, color=colour, alpha=0.5, linewidths=0, rasterized=True)
        _square(ax)
    _boundaries(axes[0, 0], network, figures.INK, "-")
    axes[0, 0].set_title("four classes and three probes", fontsize=9, loc="left")
    for name, (across, up) in PROBES.items():
        axes[0, 0].plot(across, up, marker="*", color=figures.INK, markersize=9)
        axes[0, 0].annotate(name, (across, up + 1.2), fontsize=8, ha="center", bbox=_PAPER)
    width = 0.8 / len(CENTRES)
    for number, (colour, marker) in enumerate(zip(drawing.COLOURS, drawing.MARKERS, strict=True)):
        spots = np.arange(len(PROBES)) + (number - 1.5) * width
        axes[0, 1].vlines(spots, 1e-16, contrasts[:, number], color=colour, linewidth=2)
        axes[0, 1].plot(spots, contrasts[:, number], marker, color=colour, markersize=5, label=f"class {number}")
    axes[0, 1].set(
        yscale="log", ylim=(contrasts.min() / 10, contrasts.max() * 1e5), ylabel="squared norm of the gradient"
    )
    axes[0, 1].set_xticks(range(len(PROBES)), [*PROBES])
    axes[0, 1].set_title("cross-entropy against every class", fontsize=9, loc="left")
    axes[0, 1].legend(frameon=False, fontsize=7, ncols=2, loc="upper center")
    _boundaries(axes[0, 2], network, figures.INK, "-")
    probe = torch.tensor([PROBES["known"]])
    axes[0, 2].plot(*probe[0], marker="*", color=figures.INK, markersize=9)
    for number, style in ((1, "--"), (3, ":")):
        _boundaries(axes[0, 2], towards(network, probe, number), drawing.COLOURS[number], style)
        axes[0, 2].plot([], [], style, color=drawing.COLOURS[number], label=f"one step to class {number}")
    axes[0, 2].legend(frameon=False, fontsize=7, loc="lower right")
    axes[0, 2].set_title("boundaries before and after", fontsize=9, loc="left")
    for ax, name in zip(axes[1], ("all ones, logits", "all ones, softmax", "predicted class"), strict=True):
        found = maps[name].reshape(resolution, resolution)
        low, high = np.quantile(found, [0.02, 1])
        extent = (-EDGE, EDGE, -EDGE, EDGE)
        image = ax.imshow(found, drawing.HEAT, interpolation="none", vmin=low, vmax=high, origin="lower", extent=extent)
        for centre in CENTRES:
            across, up = centre.tolist()
            ring = Circle((across, up), FAR * SPREAD, fill=False, edgecolor="white", linewidth=1.0, linestyle="--")
            ax.add_patch(ring)
        _square(ax)
        words = ", ".join(f"{where} {100 * value:.0f} %" for where, value in side[name].items())
        ax.set_title(f"{name}\nAUROC: {words}", fontsize=8, loc="left")
        figure.colorbar(image, ax=ax, location="bottom", shrink=0.8, aspect=25, label="log10 of the squared norm")
    return figure


def _square(ax: Axes) -> None:
    ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), xticks=(), yticks=(), aspect="equal")


def _boundaries(ax: Axes, network: nn.Module, colour: str, style: str, resolution: int = 120) -> None:
    """Lines between the regions of the classes: where one is as likely as the likeliest of the others."""
    axis = torch.linspace(-EDGE, EDGE, resolution)
    with torch.no_grad():
        logits = network(grid(resolution)).view(resolution, resolution, -1).numpy()
    for number in range(logits.shape[-1]):
        others = logits.copy()
        others[..., number] = -np.inf
        margin = logits[..., number] - others.max(-1)
        # Each line once, or its dashes would fill each other's gaps.
        margin = np.ma.masked_where(others.argmax(-1) < number, margin)
        if margin.count() and margin.min() < 0 < margin.max():
            ax.contour(axis, axis, margin, levels=[0.0], colors=[colour], linestyles=[style], linewidths=1.2)


if __name__ == "__main__":
    sys.exit(main())
