"""The figure of one normal class after the other: several scores beside each other, class by class."""

from __future__ import annotations

from collections.abc import Mapping

from gradiometer.errors import InputError
from gradiometer.reports.figures import CHALLENGE, INK, KNOWN, MUTED, drawing, new_figure, to_svg

_LOOKS = ((INK, "D", "--"), (CHALLENGE, "s", "-"), (KNOWN, "o", "-"), (MUTED, "^", "-"))
"""Colour, marker and line of each row."""


def by_class(rows: Mapping[str, Mapping[str, float]], *, prefix: str) -> str:
    """AUROC of each normal class against the others, one line for each row of a table.

    Args:
        rows: For each row, by its name, the AUROC in [0, 1] by class; the same classes in every row, two to four rows.
        prefix: Begins every id in the SVG, unique on the page.

    Returns:
        An `<svg>` element.

    Raises:
        DependencyError: If matplotlib is missing.
        InputError: If there are fewer than two rows or more than four, or their classes differ.
    """
    classes = list(next(iter(rows.values()), {}))
    if not 2 <= len(rows) <= len(_LOOKS) or any(list(values) != classes for values in rows.values()):
        raise InputError(f"a figure of classes needs two to {len(_LOOKS)} rows with the same classes")
    with drawing():
        figure = new_figure(6.4, 2.9)
        ax = figure.subplots()
        heights = {name: [100 * value for value in values.values()] for name, values in rows.items()}
        for (name, row), (colour, marker, line) in zip(heights.items(), _LOOKS, strict=False):
            ax.plot(classes, row, color=colour, marker=marker, markersize=4, linestyle=line, linewidth=0.9, label=name)
        ax.axhline(50, color=MUTED, linewidth=0.6, linestyle="--")
        ax.set_ylabel("AUROC in percent")
        ax.tick_params(axis="x", labelsize=8)
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
        # Room for the legend above the highest line.
        ax.set_ylim(top=max(map(max, heights.values())) + 12)
    return to_svg(
        figure,
        prefix=prefix,
        title=f"AUROC of {', '.join(rows)}, one class normal after the other",
        description="; ".join(
            f"{name}: {', '.join(f'{one} {value:.3f}' for one, value in values.items())}"
            for name, values in rows.items()
        ),
    )
