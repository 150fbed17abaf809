"""Figures as inline SVG that takes its colours and fonts from the page, so that it follows light and dark mode."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL import Image

from gradiometer.benchmarks.outcome import Profile, Scores
from gradiometer.errors import DependencyError, InputError
from gradiometer.severity import SeverityTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

INK, KNOWN, CHALLENGE, MUTED = "#010101", "#010203", "#040506", "#070809"
"""Colours that stand for those of the page and are replaced in the finished SVG."""

_PAGE_COLOURS = {INK: "currentColor", KNOWN: "var(--known)", CHALLENGE: "var(--challenge)", MUTED: "var(--muted)"}

_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names of files and columns may hold dollars
    "svg.fonttype": "none",
    "svg.hashsalt": "gradiometer",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.8,
}

_STANDALONE = "svg { background: #fff; color: #1c2330; --known: #2f6fb5; --challenge: #c8641b; --muted: #5d6778; }"

_LINES = ((KNOWN, "o"), (CHALLENGE, "s"))
_BINS = 40
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def histograms(scores: Sequence[Scores], *, prefix: str) -> str:
    """Histograms of the scores of known images and of one challenge, one row for each detector.

    Args:
        scores: Scores of the detectors to show, all on the same challenge.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there is no detector.
    """
    if not scores:
        raise InputError("a figure of histograms needs the scores of at least one detector")
    with drawing():
        figure = new_figure(3.6, 0.35 + 1.15 * len(scores))
        axes = figure.subplots(len(scores), squeeze=False)[:, 0]
        for ax, entry in zip(axes, scores, strict=True):
            _histogram(ax, entry)
    challenge = scores[0].challenge
    overlaps = ", ".join(f"{entry.detector} ({entry.protocol})" for entry in scores)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Scores of known images and of {challenge}",
        description=f"Two overlaid histograms for each of: {overlaps}. The further apart, the better the detector; "
        "a dashed line marks the threshold above which an image is flagged.",
    )


def profile(readings: Profile, challenge: str, *, prefix: str) -> str:
    """Squared gradient norms by parameter tensor for known images and one challenge, on a logarithmic scale.

    One row for each tensor, the first layer at the top: bars span the quartiles, lines the 5th to the 95th percentile,
    ticks mark the medians.

    Args:
        readings: The readings.
        challenge: Name of the challenge.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
    """
    count = len(readings.parameters)
    with drawing():
        figure = new_figure(5.2, 0.6 + 0.22 * count)
        _boxes(figure.subplots(), readings, challenge)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Squared gradient norms of {count} parameter tensors, known images against {challenge}",
        description=_in_words(readings, challenge),
    )


def levels(curves: Mapping[str, Mapping[str, Sequence[float]]], *, prefix: str) -> str:
    """AUROC over the levels of several corruptions, one panel each and one line for each of two scores.

    Args:
        curves: For each corruption, by name of the score, the AUROC at the levels 1, 2, ...; the same two scores in
            every panel.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there is no panel, or a panel has other than two scores.
    """
    if not curves or any(len(lines) != len(_LINES) for lines in curves.values()):
        raise InputError("a figure of levels needs one panel or more, each with the curves of two scores")
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    with drawing():
        figure = new_figure(1.9 * columns, 0.4 + 1.7 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(curves) :]:
            ax.set_visible(False)
        for ax, (name, lines) in zip(axes.flat, curves.items(), strict=False):
            for (score, values), (colour, marker) in zip(lines.items(), _LINES, strict=True):
                ax.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=3, label=score)
            ax.axhline(0.5, color=MUTED, linewidth=0.6, linestyle="--")
            ax.set_title(name, fontsize=8, loc="left")
            ax.set_ylim(0, 1.02)
            ax.set_xticks(range(1, 1 + max(len(values) for values in lines.values())))
        axes[0, 0].legend(frameon=False, fontsize=7, loc="lower right")
    scores = " and ".join(next(iter(curves.values())))
    return to_svg(
        figure,
        prefix=prefix,
        title=f"AUROC of {scores} over the levels of {len(curves)} corruptions",
        description="; ".join(
            f"{name}, {score}: {', '.join(f'{value:.2f}' for value in values)}"
            for name, lines in curves.items()
            for score, values in lines.items()
        ),
    )


def by_grade(table: SeverityTable, *, prefix: str) -> str:
    """Severity scores against grades: one dot for each scan, quartiles and median of each grade.

    Args:
        table: Scores with grades.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If the table has no grades.
    """
    if table.grades is None:
        raise InputError("a figure of scores against grades needs grades, and the table has none")
    present = [int(grade) for grade in np.unique(table.grades)]
    # Dots of one grade are spread at random, so that they do not hide each other; always in the same way.
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(table))
    words = []
    with drawing():
        figure = new_figure(5.0, 3.2)
        ax = figure.subplots()
        ax.scatter(table.grades + spread, table.scores, s=7, color=KNOWN, alpha=0.55, linewidths=0)
        for grade in present:
            of_grade = table.scores[table.grades == grade]
            low, middle, high = np.quantile(of_grade, [0.25, 0.5, 0.75])
            ax.vlines(grade, low, high, color=CHALLENGE, linewidth=5, alpha=0.6)
            ax.hlines(middle, grade - 0.35, grade + 0.35, color=CHALLENGE, linewidth=1.8)
            words.append(f"grade {grade}, {len(of_grade)} scans: {middle:.3g} ({low:.3g} to {high:.3g})")
        ax.set_xticks(present)
        ax.set_xlabel("grade")
        ax.set_ylabel("severity score")
    return to_svg(
        figure,
        prefix=prefix,
        title=f"Severity score of {len(table)} scans against their grade",
        description=f"Medians and quartiles of the score. {'; '.join(words)}.",
    )


def standalone(svg: str) -> str:
    """A figure as a file of its own, in the light colours of the page on white: for places without its style sheet.

    Args:
        svg: What one of the functions above returned.

    Returns:
        An SVG document.
    """
    opened = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="660" ', 1)
    return opened.replace(">", f"><style>{_STANDALONE}</style>", 1)


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """A uint8 image (K, H, W) with K = 1 or 3 as a PNG in a data URI.

    Raises:
        InputError: If the image has another type or number of channels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"an image must be uint8 (1 or 3, H, W), got {image.dtype} {image.shape}")
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _boxes(ax: Axes, readings: Profile, challenge: str) -> None:
    """Two bars a row: quartiles, with a line from the 5th to the 95th percentile and a tick at the median."""
    count = len(readings.parameters)
    rows = np.arange(count, dtype=np.float64)
    for values, colour, offset in (
        (readings.known, KNOWN, -0.2),
        (readings.challenges[challenge], CHALLENGE, 0.2),
    ):
        low, first, median, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        ax.hlines(rows + offset, low, high, color=colour, linewidth=1.0)
        ax.barh(rows + offset, third - first, left=first, height=0.34, color=colour, alpha=0.75, linewidth=0)
        ax.vlines(median, rows + offset - 0.17, rows + offset + 0.17, color=INK, linewidth=1.4)
    for row in rows[1:]:
        ax.axhline(row - 0.5, color=MUTED, linewidth=0.3, alpha=0.5)
    ax.set_yticks(rows, readings.parameters, fontsize=7)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(count - 0.5, -0.5)
    ax.set_xlabel("log10 of the squared gradient norm")


def _histogram(ax: Axes, entry: Scores) -> None:
    """One row of histograms; the ends of the axis take in everything beyond them."""
    other = entry.challenging
    both = np.concatenate([entry.known, other])
    low, high = np.quantile(both, [0.002, 0.99])
    if entry.threshold is not None:
        high = max(high, entry.threshold)
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    for values, colour in ((entry.known, KNOWN), (other, CHALLENGE)):
        shares, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        ax.stairs(shares / len(values), edges, color=colour, fill=True, alpha=0.55)
    if entry.threshold is not None:
        ax.axvline(entry.threshold, color=INK, linewidth=1.0, linestyle="--")
    ax.set_title(f"{entry.detector} ({entry.protocol})", fontsize=9, loc="left")
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", labelsize=8)


def _in_words(readings: Profile, challenge: str) -> str:
    """The figure of the layers in a sentence, for those who do not see it."""
    known, other = readings.known, readings.challenges[challenge]
    spread = np.maximum(known.std(axis=0), 1e-12)
    shift = (np.median(other, axis=0) - np.median(known, axis=0)) / spread
    order = np.argsort(-np.abs(shift))[:3]
    furthest = ", ".join(f"{readings.parameters[i]} ({shift[i]:+.1f})" for i in order)
    return (
        f"For each parameter tensor the quartiles of both sets. Medians of {challenge} are higher in "
        f"{int((shift > 0).sum())} of {len(shift)} tensors; furthest from known images, in their standard deviations: "
        f"{furthest}."
    )


@contextmanager
def drawing() -> Iterator[None]:
    """The style of all figures, also for axes that are added to a figure."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise DependencyError(
            "figures need matplotlib, which is not installed; run: pip install 'gradiometer[report]'"
        ) from error
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure without any global state, width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, *, prefix: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element with unique ids, a title, a description and the colours of the page."""
    buffer = io.StringIO()
    with drawing():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - our own output
    for parent in list(root.iter()):
        for child in list(parent):
            # Its style sheet would apply to the whole page, its metadata name addresses on the web.
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        attributes = {name.replace(_XLINK, ""): _local(name, value, prefix) for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(attributes)
    for name, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(name, {"id": f"{prefix}-{name}"})
        element.text = text
        root.insert(0, element)
    _frame(root, prefix)
    text = ElementTree.tostring(root, encoding="unicode")
    for placeholder, colour in _PAGE_COLOURS.items():
        text = text.replace(placeholder, colour)
    return text


def _local(name: str, value: str, prefix: str) -> str:
    """An attribute with ids made unique and fonts left to the page."""
    if name == "id":
        return f"{prefix}-{value}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", value)
    if name.endswith("href") and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    return re.sub(r"font:\s*([\d.]+px)[^;]*", r"font: \1 system-ui, sans-serif", value)


def _frame(root: ElementTree.Element, prefix: str) -> None:
    """Let the page decide on the width, and name the figure for screen readers."""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    settings: dict[str, Any] = {"role": "img", "aria-labelledby": f"{prefix}-title {prefix}-desc", "class": "figure"}
    root.attrib.update(settings)
