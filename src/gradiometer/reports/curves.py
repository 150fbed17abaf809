"""Figures of many challenges at once: ROC and risk-coverage curves, readings by layer, the matrix of transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from gradiometer.benchmarks.outcome import Profile, Scores
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.selective import risk_coverage
from gradiometer.errors import InputError
from gradiometer.reports.figures import CHALLENGE, INK, KNOWN, MUTED, drawing, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Line = tuple[Floats, Floats]

_COLUMNS = 4
_POINTS = 100
"""Points of a curve: enough for a panel of this size, and a small file."""

_STYLES = ((MUTED, ":"), (KNOWN, "--"), (CHALLENGE, "-"))


def roc(scores: Sequence[Scores], *, prefix: str) -> str:
    """ROC curves, one panel for each challenge and one line for each detector.

    Args:
        scores: Scores of at most three detectors on every challenge.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there are no scores, or those of more than three detectors.
    """

    def curve(entry: Scores) -> Line:
        target = np.repeat([0, 1], [len(entry.known), len(entry.challenging)])
        false, true, _ = roc_curve(target, np.concatenate([entry.known, entry.challenging]))
        return false, true

    panels = _Panels.of(scores, "ROC curves")
    with drawing():
        figure, _ = panels.drawn(curve, np.linspace(0, 1, _POINTS), tall=1.7, sharey=True)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"ROC curves of {', '.join(panels.columns)} on {len(panels.names)} challenges",
        description="The share of the challenge that is found against the share of known images that are flagged, for "
        "every threshold. A curve along the upper left corner is perfect, the diagonal is guessing.",
    )


def risk(scores: Sequence[Scores], *, prefix: str) -> str:
    """Risk-coverage curves, one panel for each row of predictions and one line for each detector.

    Args:
        scores: Scores of at most three detectors on right and wrong predictions in their true proportion.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there are no scores, or those of more than three detectors.
    """
    words = []

    def curve(entry: Scores) -> Line:
        coverage, wrong = risk_coverage(entry.known, entry.challenging)
        words.append(f"{entry.challenge}, {entry.column}: {100 * float(np.interp(0.8, coverage, wrong)):.1f} at 80 %")
        return 100 * coverage, 100 * wrong

    panels = _Panels.of(scores, "risk and coverage")
    with drawing():
        figure, axes = panels.drawn(curve, np.linspace(2, 100, _POINTS), tall=1.9, sharey=False)
        for ax in axes:
            ax.set_ylim(bottom=0)
            ax.set_xlabel("kept, %", fontsize=7)
        figure.supylabel("wrong among them, %", fontsize=8)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Risk against coverage of {', '.join(panels.columns)} on {len(panels.names)} rows of predictions",
        description="The share of wrong predictions, in percent, among those that are kept, for every number of them; "
        f"the lower, the better. {'; '.join(words)}.",
    )


@dataclass(frozen=True)
class _Panels:
    """A figure with a panel for each challenge, and in it a line for each detector."""

    scores: Sequence[Scores]
    names: list[str]
    columns: list[str]

    @classmethod
    def of(cls, scores: Sequence[Scores], what: str) -> Self:
        names = list(dict.fromkeys(entry.challenge for entry in scores))
        columns = list(dict.fromkeys(entry.column for entry in scores))
        if not names or len(columns) > len(_STYLES):
            raise InputError(f"a figure of {what} shows one to {len(_STYLES)} detectors, got {len(columns)}")
        return cls(scores, names, columns)

    def drawn(
        self, curve: Callable[[Scores], Line], grid: Floats, *, tall: float, sharey: bool
    ) -> tuple[Figure, list[Any]]:
        """The figure, and the axes of its panels."""
        width, height = _grid(len(self.names))
        figure = new_figure(max(3.0, 1.7 * width + 0.3), 0.5 + tall * height)
        axes = figure.subplots(height, width, squeeze=False, sharex=True, sharey=sharey)
        for ax in axes.flat[len(self.names) :]:
            ax.set_visible(False)
        for ax, name in zip(axes.flat, self.names, strict=False):
            for entry in self.scores:
                if entry.challenge != name:
                    continue
                colour, line = _STYLES[self.columns.index(entry.column)]
                ax.plot(grid, np.interp(grid, *curve(entry)), color=colour, linestyle=line, linewidth=1.2)
            ax.set_title(name, fontsize=8, loc="left")
            ax.tick_params(labelsize=7)
        styles = _STYLES[: len(self.columns)]
        lines = [axes.flat[0].plot([], [], color=c, linestyle=s, linewidth=1.2)[0] for c, s in styles]
        # Three names are wider than two panels.
        beside = len(self.columns) if width > 2 else 1
        figure.legend(lines, self.columns, loc="outside lower center", ncols=beside, frameon=False, fontsize=8)
        return figure, [*axes.flat[: len(self.names)]]


def layers(readings: Profile, *, prefix: str) -> str:
    """How far the gradient norms of each challenge lie from those of known images, tensor by tensor.

    One panel for each challenge: the median over its images as a line and the quartiles as a band, in standard
    deviations of the known images from their median, from the first parameter tensor to the last.

    Args:
        readings: The readings.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there is no challenge.
    """
    if not readings.challenges:
        raise InputError("a figure of the layers needs at least one challenge")
    centre, spread = np.median(readings.known, axis=0), np.maximum(readings.known.std(axis=0), 1e-12)
    width, height = _grid(len(readings.challenges))
    words = []
    with drawing():
        figure = new_figure(1.9 * width, 0.3 + 1.35 * height)
        axes = figure.subplots(height, width, squeeze=False, sharex=True, sharey=True)
        for ax in axes.flat[len(readings.challenges) :]:
            ax.set_visible(False)
        for ax, (name, values) in zip(axes.flat, readings.challenges.items(), strict=False):
            low, middle, high = np.quantile((values - centre) / spread, [0.25, 0.5, 0.75], axis=0)
            places = np.arange(len(middle))
            ax.fill_between(places, low, high, color=CHALLENGE, alpha=0.3, linewidth=0)
            ax.plot(places, middle, color=CHALLENGE, linewidth=1.0)
            ax.axhline(0, color=KNOWN, linewidth=0.8)
            ax.set_title(name, fontsize=8, loc="left")
            ax.tick_params(labelsize=7)
            ax.set_ylim(-4, 4)
            furthest = int(np.abs(middle).argmax())
            words.append(f"{name}: furthest at {readings.parameters[furthest]} ({middle[furthest]:+.1f})")
        figure.supxlabel("parameter tensor, from input to output", fontsize=8)
        figure.supylabel("standard deviations", fontsize=8)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Squared gradient norms of {len(readings.challenges)} challenges relative to known images, by tensor",
        description="Median and quartiles of each challenge on a log scale, in standard deviations of known images. "
        + "; ".join(words),
    )


def transfer(records: Sequence[Record], *, prefix: str, detector: str = "Purview") -> str | None:
    """The matrix of transfer as a heat map: what a detector was trained on against what it was tested on.

    Args:
        records: Records of one benchmark.
        prefix: Begins every id in the SVG, unique on the page.
        detector: Which detector.

    Returns:
        An `<svg>` element, or None when there are no records of transfer.

    Raises:
        DependencyError: If matplotlib is missing.
    """
    found = {
        (record.trained_on, record.challenge): record.metrics.auroc.value
        for record in records
        if record.protocol == "transfer" and record.detector == detector
    }
    if not found:
        return None
    sources = list(dict.fromkeys(source for source, _ in found))
    names = list(dict.fromkeys(name for _, name in found))
    values = np.array([[found.get((source, name), np.nan) for name in names] for source in sources])
    with drawing():
        figure = new_figure(1.6 + 0.55 * len(names), 1.1 + 0.32 * len(sources))
        ax = figure.subplots()
        for row in range(len(sources)):
            for column in range(len(names)):
                value = values[row, column]
                # Colour says on which side of guessing, strength how far from it.
                ax.fill(
                    [column - 0.48, column + 0.48, column + 0.48, column - 0.48],
                    [row - 0.46, row - 0.46, row + 0.46, row + 0.46],
                    color=KNOWN if value >= 0.5 else CHALLENGE,
                    alpha=0.05 + 0.75 * min(1.0, 2 * abs(value - 0.5)),
                    linewidth=0,
                )
                ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=INK)
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
        ax.set_yticks(range(len(sources)), sources, fontsize=7)
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_ylim(len(sources) - 0.5, -0.5)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_ylabel("trained on", fontsize=8)
        ax.set_title(f"tested on: AUROC of {detector}, %", fontsize=8, loc="left")
    worst = min(found, key=lambda pair: found[pair])
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Transfer of {detector} between {len(names)} challenges",
        description=f"AUROC in percent of {detector}, trained on the row, tested on the column; below 50 in another "
        f"colour. The lowest is {100 * found[worst]:.0f}, trained on {worst[0]} and tested on {worst[1]}.",
    )


def _grid(count: int) -> tuple[int, int]:
    """Columns and rows of so many panels."""
    return min(_COLUMNS, count), -(-count // min(_COLUMNS, count))
