"""What the examples share: their two options, the look of their figures, and the two files that each of them writes."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradiometer.reports import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#2f6fb5", "#c8641b", "#2e8b6f", "#8e5aa8"
"""Colours of lines and dots, which differ in brightness too; each comes with a marker or a line style of its own."""

GREY = "#5d6778"

HEAT = "cividis"
"""The colours of maps: brighter is more, and the same to those who see no red or green."""

COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
MARKERS = ("o", "s", "^", "D")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every example has.

    Args:
        description: The docstring of the script.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("lecture"), metavar="FOLDER", help="takes the figure and record")
    made.add_argument("--quick", action="store_true", help="less of everything, to see that it runs; seconds")
    return made


def write(folder: Path, name: str, figure: Figure, title: str, record: Mapping[str, Any]) -> None:
    """Write `NAME.svg` and `NAME.json`, and print the record.

    Args:
        folder: Where to; made when it is not there.
        name: Of the two files, without an ending.
        figure: What `figures.new_figure` returned, drawn on.
        title: What the figure shows, in a sentence: for those who do not see it.
        record: Settings, and the numbers that a text may quote, as JSON values.
    """
    found = {**record, "environment": _environment()}
    svg = figures.to_svg(figure, prefix=name, title=title, description=f"The numbers are in {name}.json.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text(figures.standalone(svg) + "\n", encoding="utf-8")
    text = json.dumps(rounded(found), indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{folder / name}.svg\n{text}")


def rounded(value: Any) -> Any:
    """The same value with every number at six significant digits, so that a record is no longer than it is exact."""
    if isinstance(value, Mapping):
        return {str(name): rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _environment() -> dict[str, str]:
    """The versions behind the numbers."""
    packages = {name: version(name) for name in ("gradiometer", "numpy", "scikit-learn")}
    return {"python": platform.python_version(), "torch": torch.__version__, **packages}
