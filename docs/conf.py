"""Settings of the documentation (Sphinx, furo, MyST)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import gradiometer

project = "Gradiometer"
author = "The Gradiometer authors"
copyright = "The Gradiometer authors, Apache License 2.0"
version = release = gradiometer.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["results/**", "_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Gradiometer {release}"

# Docstrings that are ours only: what torch and pytorch-ood say about their own methods stays with them.
autodoc_inherit_docstrings = False
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

_CODE = re.compile(r"(``.+?``|(?<![`:\w])`[^`]+`(?![`_]))", re.DOTALL)
_STARS = re.compile(r"(?<!\\)\*(?=\W|$)|(?<=\s)\*(?=\S)")
_BULLET = re.compile(r"^\s*\* ")


def readable(_app: Sphinx, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    """Let docstrings be plain text with code in backticks, as they are read in the source.

    reStructuredText gives bars and asterisks a meaning that a norm or a glob does not have, prints single backticks in
    italics, and wants empty lines around lists.
    """
    text: list[str] = []
    for line in lines:
        starts_list = _BULLET.match(line) and text and text[-1].strip() and not _BULLET.match(text[-1])
        if starts_list and _indent(text[-1]) <= _indent(line):
            text.append("")
        text.append(line)
    parts = _CODE.split("\n".join(text))
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = "``" + " ".join(part.strip("`").split()) + "``"
        else:
            parts[place] = "\n".join(map(_plain, part.split("\n")))
    lines[:] = "".join(parts).split("\n")


def _indent(line: str) -> int:
    """Number of leading spaces."""
    return len(line) - len(line.lstrip())


def _plain(line: str) -> str:
    """Escape what is markup by accident, except in examples, which are literal, and in bullets, which are meant."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    bullet = _BULLET.match(line)
    head = bullet[0] if bullet else ""
    return head + _STARS.sub(r"\\*", line[len(head) :]).replace("|", r"\|")


def setup(app: Sphinx) -> None:
    """Run before napoleon, whose own markup must stay."""
    app.connect("autodoc-process-docstring", readable, priority=400)
