"""Draw the figures of the lecture, and write the numbers of its page from their records, so that none is typed.

    python docs/draw_lecture.py --data-root FOLDER   # everything; without a folder all but the figure of CIFAR-10
    python docs/draw_lecture.py --numbers            # only the numbers of the page

A number of the page is followed by where it comes from: `<!-- RECORD: key/key | format -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
FOLDER = ROOT / "docs" / "images" / "lecture"
PAGES = (ROOT / "docs" / "lecture.md", ROOT / "README.md")

SCRIPTS = (
    "more_data",
    "two_uncertainties",
    "confidence_gap",
    "activation_and_gradient",
    "contrast_classes",
    "layer_profile",
    "information_and_uncertainty",
)
"""In the order of the page."""

NUMBER = re.compile(r"(-?\d[\d.,]*(?:e-?\d+)?(?: %)?)(<!-- (\w+): ([^|]+?) \| (\S+) -->)")


def rendered(page: str) -> str:
    """The text of a page with every number that has a source written anew."""
    return NUMBER.sub(lambda match: f"{written(match[3], match[4], match[5])}{match[2]}", page)


def written(name: str, path: str, form: str) -> str:
    """A number of a record as it stands in the text.

    Args:
        name: Of the record.
        path: Keys from the outside to the inside, with slashes between them.
        form: As for `format`; `.0%` gives percent.
    """
    found: Any = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for key in path.split("/"):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return format(found, form).replace("%", " %")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the examples, then write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", action="store_true", help="draw nothing")
    parser.add_argument("--data-root", metavar="FOLDER", help="holds cifar10.npz, in the layout of MedMNIST")
    options = parser.parse_args(arguments)
    if not options.numbers:
        sys.path.insert(0, str(EXAMPLES))  # where the examples find what they share
        calls = [(name, ["--out", str(FOLDER)]) for name in SCRIPTS]
        if options.data_root is not None:
            calls.append(("confidence_gap", ["--out", str(FOLDER), "--data-root", options.data_root]))
        for name, given in calls:
            runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](given)
    for path in PAGES:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
