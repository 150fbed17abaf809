"""Figures of the records, as SVG: rendered from the figures in the JSON, and the same for the same JSON."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring.contenders import EVERY, FLOOR, INSTRUMENT, STEP
from measuring.memory import MIB
from measuring.results import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradiometer",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "lines.markersize": 4,
}

#: Bounds are grey, the instrument stands out, and peers have colours that can be told apart, with a marker each.
_GREYS = {"forward": ":", FLOOR: "--", STEP: "-", "training-step-train-mode": "-."}
_OURS = "#c8102e"
_PEERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d1f", "#5d3a9b", "#1b7837", "#7f7f00", "#994f00")
_MARKERS = "sD^vP<>X*p"
_COLUMNS, _WIDE, _HIGH = 3, 3.1, 2.4


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        name: Name of the contender.
        points: Where it goes, (x, y).
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One panel of a figure; both axes are logarithmic.

    Attributes:
        title: What stands above it.
        across: What the horizontal axis shows.
        up: What the vertical axis shows.
        lines: Its lines.
    """

    title: str
    across: str
    up: str
    lines: Sequence[Line]


def instrument(document: Mapping[str, Any]) -> dict[str, str]:
    """Time, and memory where it was measured, in training steps over the batch: a panel for each network."""
    figures = {
        "instrument": _panels(document, "time in training steps", "to_training_step"),
        "instrument-memory": _panels(document, "memory in training steps", "memory_to_training_step"),
    }
    return {name: drawn(panels) for name, panels in figures.items() if any(panel.lines for panel in panels)}


def _panels(document: Mapping[str, Any], up: str, ratio: str) -> list[Panel]:
    networks: dict[str, list[Mapping[str, Any]]] = {}
    for section in in_order(document["sections"]):
        networks.setdefault(section["title"], []).append(section)
    panels = []
    for title, sections in networks.items():
        points: dict[str, list[tuple[float, float]]] = {}
        for section in sections:
            for row in section["rows"]:
                if height := row["ratios"].get(ratio):
                    points.setdefault(row["name"], []).append((section["batch"], height))
        panels.append(Panel(title, "samples in a batch", up, [Line(*each) for each in points.items()]))
    return panels


def growth(document: Mapping[str, Any]) -> dict[str, str]:
    """How cost grows with one size of the task: a figure for each of them, time and memory for one sample."""
    return {
        name: drawn(
            [
                _growing(sections, "ms a sample", lambda row, batch: row["median"] and 1e3 * row["median"] / batch),
                _growing(sections, "MiB a batch", lambda row, _: row["memory"] and row["memory"]["rise"] / MIB),
            ]
        )
        for name, sections in _grouped(document).items()
    }


def _grouped(document: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for section in document["sections"]:
        found.setdefault(section["axis"], []).append(section)
    return found


def _growing(
    sections: Sequence[Mapping[str, Any]], up: str, value: Callable[[Mapping[str, Any], int], float | None]
) -> Panel:
    points: dict[str, list[tuple[float, float]]] = {}
    for section in sorted(sections, key=lambda each: each["size"]):
        for row in section["rows"]:
            if height := value(row, section["batch"]):
                points.setdefault(row["name"], []).append((section["size"], height))
    lines = [Line(*each) for each in points.items()]
    return Panel(sections[0]["of"], sections[0]["across"], up, lines)


def drawn(panels: Sequence[Panel]) -> str:
    """An SVG of panels, in rows of three, with one legend for all."""
    panels = [panel for panel in panels if panel.lines]
    columns = max(1, min(_COLUMNS, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    with _drawing():
        from matplotlib.figure import Figure as Canvas

        figure = Canvas(figsize=(_WIDE * max(columns, 2), _HIGH * rows + 0.9), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, panel)
        for ax in axes[len(panels) :]:
            ax.set_visible(False)
        named = {line.name for panel in panels for line in panel.lines}
        _legend(figure, [name for name in EVERY if name in named])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write(folder: Path | None, drawings: Mapping[str, str]) -> None:
    """Write figures by name, so that none is ever half written; nowhere without a folder."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawings.items():
        partial = folder / f"{name}.svg.partial"
        partial.write_text(svg, encoding="utf-8")
        partial.replace(folder / f"{name}.svg")


def _draw(ax: Axes, panel: Panel) -> None:
    for line in panel.lines:
        ax.plot(*zip(*line.points, strict=True), **_look(line.name))
    ax.set_xscale("log")
    ax.set_yscale("log")
    places = sorted({across for line in panel.lines for across, _ in line.points})
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    heights = [height for height in _ROUND if low <= height <= high]
    if len(heights) > _LABELS:
        heights = [height for height in heights if f"{height:e}".startswith("1.")]
    ax.set_yticks(heights, [f"{height:g}" for height in heights])
    ax.set_title(panel.title)
    ax.set_xlabel(panel.across)
    ax.set_ylabel(panel.up)
    ax.grid(axis="y", linewidth=0.3)


#: Heights that are labelled where they lie within a panel, and how many of them before powers of ten must do.
_LABELS = 8
_ROUND = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]


def _look(name: str) -> dict[str, Any]:
    """Colour, line and marker of a contender."""
    if name in _GREYS:
        return {"color": "#6b6b6b", "linestyle": _GREYS[name], "marker": ".", "linewidth": 1.0}
    if name == INSTRUMENT:
        return {"color": _OURS, "marker": "o", "linewidth": 2.0, "zorder": 5}
    if EVERY[name].kind == "instrument":
        return {"color": _OURS, "marker": "o", "linewidth": 1.2, "linestyle": "--" if name == "contrast" else ":"}
    at = [each for each in EVERY if EVERY[each].kind == "peer"].index(name)
    return {"color": _PEERS[at % len(_PEERS)], "marker": _MARKERS[at % len(_MARKERS)], "linewidth": 0.9}


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=EVERY[name].title, **_look(name)) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7)


@contextmanager
def _drawing() -> Iterator[None]:
    """Our style, without any of the user's."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield
