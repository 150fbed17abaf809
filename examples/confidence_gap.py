"""The confidence gap: how sure networks are, against how often they are right.

    python examples/confidence_gap.py --out lecture
    python examples/confidence_gap.py --out lecture --data-root FOLDER   # cifar10.npz, and the two shipped networks

A small and a large perceptron learn the digits of scikit-learn from few examples. Their predictions are sorted into
fifteen bins by confidence; the expected calibration error is the mean distance between confidence and accuracy of the
bins, each weighted by its share of the predictions (Guo et al., "On Calibration of Modern Neural Networks", ICML
2017).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import drawing
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gradiometer import data, models
from gradiometer.reports import figures

BINS = 15
EXAMPLES = 150
"""Digits to learn from: few, so that there are mistakes to be sure of."""

SEEDS = 5
"""Trainings of each network, on other digits each time; the bins hold the predictions of all."""

STEPS = 300
SHIPPED = ("densenet-bc-40-12-cifar10", "resnet20-cifar10")
"""The smaller first."""


@dataclass(frozen=True)
class Bins:
    """What lies between confidence and accuracy.

    Attributes:
        confidence: Mean of the largest probability in each bin (K,); 0 in an empty one.
        accuracy: Share of right predictions in each bin (K,); 0 in an empty one.
        share: Share of all predictions that are in each bin (K,).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray, count: int = BINS) -> Bins:
        """Sort predictions into bins of equal width.

        Args:
            probabilities: (N, C).
            labels: The right classes (N,).
            count: Number of bins.
        """
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        # A bin holds its upper end, as in the paper: (0, 1/15], (1/15, 2/15], ...
        place = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
        size = np.bincount(place, minlength=count)
        filled = np.maximum(size, 1)
        sums = [np.bincount(place, weights=values, minlength=count) for values in (confidence, right)]
        return cls(sums[0] / filled, sums[1] / filled, size / len(labels))

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        return float((self.share * np.abs(self.confidence - self.accuracy)).sum())

    @property
    def gap(self) -> float:
        """Mean confidence minus accuracy: above 0 is too sure, below 0 not sure enough."""
        return float((self.share * (self.confidence - self.accuracy)).sum())


def perceptron(width: int, depth: int, seed: int) -> nn.Sequential:
    """A network for 8 x 8 pixels with some hidden layers of one width."""
    torch.manual_seed(seed)
    hidden: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width), nn.ReLU()]
    for _ in range(depth - 1):
        hidden += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def learn(network: nn.Module, images: Tensor, labels: Tensor, rate: float) -> nn.Module:
    """Train on all images at once, for a fixed number of steps of Adam."""
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


def predictions(network: nn.Module, images: data.Images) -> np.ndarray:
    """Probabilities (N, C)."""
    with torch.no_grad():
        return torch.cat([network(batch).double().softmax(1) for batch in images.batches(256)]).numpy()


def on_digits(seeds: int, widths: Sequence[int]) -> tuple[dict[str, list[Bins]], dict[str, Bins]]:
    """Bins of a small and a large perceptron: for each training, and for the predictions of all of them."""
    digits = data.load("digits")
    names = ("small", "large")
    each: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in names}
    for seed in range(seeds):
        parts = data.split(digits, {"known": EXAMPLES / len(digits), "test": 0.8}, seed=seed)
        known, test = data.to_unit(parts["known"].images), parts["test"]
        for name, width, depth, rate in zip(names, widths, (1, 2), (3e-3, 1e-3), strict=True):
            network = learn(perceptron(width, depth, seed), known, parts["known"].labels, rate)
            each[name].append((predictions(network, test), test.labels.numpy()))
    bins = {name: [Bins.of(*found) for found in of] for name, of in each.items()}
    return bins, {name: Bins.of(*map(np.concatenate, zip(*of, strict=True))) for name, of in each.items()}


def on_cifar(root: Path, limit: int | None) -> tuple[dict[str, list[Bins]], dict[str, Bins]]:
    """Bins of the two shipped networks on the test images of CIFAR-10."""
    test = data.load("cifar10", root=root, split="test", limit=limit)
    bins = {name: Bins.of(predictions(models.load(name), test), test.labels.numpy()) for name in SHIPPED}
    return {name: [of] for name, of in bins.items()}, bins


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or load two networks, draw how sure and how right they are, and write the calibration errors."""
    parser = drawing.parser(__doc__)
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="holds cifar10.npz, in the layout of MedMNIST")
    options = parser.parse_args(arguments)
    if options.data_root is None:
        seeds, widths = (1, (16, 64)) if options.quick else (SEEDS, (16, 512))
        each, together = on_digits(seeds, widths)
        name, settings = "confidence_gap", {"examples": EXAMPLES, "seeds": seeds, "widths": widths, "steps": STEPS}
    else:
        each, together = on_cifar(options.data_root, 200 if options.quick else None)
        sizes = {name: sum(weight.numel() for weight in models.load(name).parameters()) for name in SHIPPED}
        name, settings = "confidence_gap_cifar10", {"parameters": sizes}
    record = {
        "settings": {"bins": BINS, **settings},
        "calibration_error": {name: of.calibration_error for name, of in together.items()},
        "gap": {name: of.gap for name, of in together.items()},
        "accuracy": {name: float((of.share * of.accuracy).sum()) for name, of in together.items()},
        "confidence": {name: float((of.share * of.confidence).sum()) for name, of in together.items()},
        "gap_of_each_training": {name: [bins.gap for bins in of] for name, of in each.items()},
        "trainings_with_the_large_one_surer": sum(
            large.gap > small.gap for small, large in zip(*each.values(), strict=True)
        ),
    }
    with figures.drawing():
        figure = draw(together)
    title = f"Reliability diagrams of {' and '.join(together)}: accuracy over confidence in {BINS} bins"
    drawing.write(options.out, name, figure, title, record)
    return 0


def draw(bins: Mapping[str, Bins]) -> Figure:
    """A reliability diagram for each network, and below it how many predictions are in each bin."""
    figure = figures.new_figure(7.0, 4.2)
    axes = figure.subplots(2, len(bins), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
    middles = (np.arange(BINS) + 0.5) / BINS
    for (name, of), above, below in zip(bins.items(), *axes, strict=True):
        filled = of.share > 0
        places, width = middles[filled], 1 / BINS
        above.bar(places, of.accuracy[filled], width, color=drawing.BLUE, edgecolor="white", label="accuracy")
        for place, confidence, accuracy in zip(places, of.confidence[filled], of.accuracy[filled], strict=True):
            above.vlines(place, accuracy, confidence, color=drawing.ORANGE, linewidth=5, alpha=0.8)
        above.vlines([], 0, 0, color=drawing.ORANGE, linewidth=5, alpha=0.8, label="gap to the confidence")
        above.plot([0, 1], [0, 1], color=figures.MUTED, linewidth=0.8, linestyle="--")
        above.set_title(
            f"{name}\nerror {100 * of.calibration_error:.1f} %, {'too sure' if of.gap > 0 else 'not sure enough'} by "
            f"{100 * abs(of.gap):.1f} %",
            fontsize=9,
            loc="left",
        )
        below.bar(middles, 100 * of.share, 1 / BINS, color=figures.MUTED, edgecolor="white")
        below.set_xlabel("confidence")
    axes[0, 0].set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    axes[1, 0].set(yscale="log", ylabel="predictions, %")
    return figure


if __name__ == "__main__":
    sys.exit(main())
