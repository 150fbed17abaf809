"""The per-layer profile: what known and other images ask of every parameter tensor, for three objectives.

    python examples/layer_profile.py --out lecture

A small network learns digits. Test digits are known to it, letters are not. The instrument reads the squared norm of
the gradient of every parameter tensor for each image, in one pass for all of them (Lee et al., "Probing the Purview
of Neural Networks via Gradient Analysis", IEEE Access 2023). Which of the two sides is higher depends on the
objective.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import digits
import drawing
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from torch import nn

from gradiometer import ConfoundingLabel, Gradiometer, PseudoLabel, challenges, data
from gradiometer.gradients import Objective
from gradiometer.reports import figures

OBJECTIVES: Mapping[str, Objective] = {
    "all ones, softmax": ConfoundingLabel(reading="softmax"),
    "all ones, logits": ConfoundingLabel(),
    "predicted class": PseudoLabel(),
}
LETTERS = 900
EPOCHS = 30


def readings(network: nn.Module, images: data.Images, objective: Objective) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the T parameter tensors, and log10 of the squared norms of their gradients (N, T)."""
    meter = Gradiometer(network, objective)
    values = torch.cat([meter.squared_norms(batch).values for batch in images.batches(256)])
    # A gradient may be exactly zero.
    return meter.parameters, np.log10(values.numpy() + 1e-20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the network, draw its profiles, and write medians and how well each tensor tells letters."""
    options = drawing.parser(__doc__).parse_args(arguments)
    count, epochs = (60, 2) if options.quick else (LETTERS, EPOCHS)
    parts = data.split(data.load("digits"), {"known": 0.5, "test": 0.5}, seed=0)
    network, accuracy = digits.network(parts, epochs)
    sets = {"digits": parts["test"], "letters": challenges.letters(8, count, seed=0)}
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, objective in OBJECTIVES.items():
        found[name] = {}
        for of, images in sets.items():
            names, found[name][of] = readings(network, images, objective)
    target = np.repeat([0, 1], [len(images) for images in sets.values()])
    record = {
        "settings": {"epochs": epochs, "letters": count, "seed": 0},
        "images": {of: len(images) for of, images in sets.items()},
        "accuracy": accuracy,
        "tensors": len(names),
        "tensors_with_higher_median_for_letters": {
            name: int((np.median(of["letters"], 0) > np.median(of["digits"], 0)).sum()) for name, of in found.items()
        },
        "medians": {
            name: {side: dict(zip(names, np.median(values, 0).tolist(), strict=True)) for side, values in of.items()}
            for name, of in found.items()
        },
        "auroc_of_a_larger_norm_for_letters": {
            name: {
                tensor: float(roc_auc_score(target, values))
                for tensor, values in zip(names, np.concatenate([*of.values()]).T, strict=True)
            }
            for name, of in found.items()
        },
    }
    with figures.drawing():
        figure = draw(names, found)
    title = f"Squared gradient norms of {len(names)} parameter tensors for digits and letters, with three objectives"
    drawing.write(options.out, "layer_profile", figure, title, record)
    return 0


def draw(names: Sequence[str], found: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """One panel for each objective, one row for each tensor, the first layer at the top."""
    figure = figures.new_figure(8.6, 0.9 + 0.26 * len(names))
    axes = figure.subplots(1, len(found), sharey=True)
    for ax, (name, sides) in zip(axes, found.items(), strict=True):
        for (side, values), colour, offset in zip(sides.items(), drawing.COLOURS, (-0.2, 0.2), strict=False):
            _boxes(ax, values, np.arange(len(names)) + offset, colour, side)
        ax.set_title(name, fontsize=9, loc="left")
        ax.set_xlabel("log10 of the squared norm")
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return figure


def _boxes(ax: Axes, values: np.ndarray, rows: np.ndarray, colour: str, label: str) -> None:
    """Quartiles as bars, 5 to 95 % as lines, medians as ticks."""
    low, first, middle, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    ax.hlines(rows, low, high, color=colour, linewidth=1.0)
    ax.barh(rows, third - first, left=first, height=0.34, color=colour, alpha=0.75, linewidth=0, label=label)
    ax.vlines(middle, rows - 0.17, rows + 0.17, color=figures.INK, linewidth=1.4)


if __name__ == "__main__":
    sys.exit(main())
