"""Tables and paragraphs in Markdown, and a document beside them in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(folder: Path, stem: str, document: Mapping[str, Any], text: str) -> None:
    """Write a document as JSON with its table beside it, so that neither is ever half written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((f"{stem}.json", json.dumps(document, indent=1) + "\n"), (f"{stem}.md", text)):
        partial = folder / f"{name}.partial"
        partial.write_text(content, encoding="utf-8")
        partial.replace(folder / name)


def environment_text(found: Mapping[str, Any]) -> str:
    """Where and when, as a paragraph."""
    return f"{when_text(found)}. {machine_text(found)}"


def when_text(found: Mapping[str, Any]) -> str:
    """When, and how busy the machine was."""
    load = found["load_average"]
    return f"{found['date']}" + (f", load average {load[0]:.1f} at the start" if load else "")


def machine_text(found: Mapping[str, Any]) -> str:
    """Where, and with what."""
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in found["versions"].items())
    return (
        f"{found['processor']}, {found['vector_instructions']}, {found['threads']} threads on {found['cores']} cores, "
        f"{found['system']}. {versions}; source of gradiometer {found.get('source', 'unknown')}."
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in (headings, *rows)) for at in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + ("-" if at == 0 else ":") for at, width in enumerate(widths))
    return "\n".join([line(headings), f"|{rule}|", *map(line, rows)])


def number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"
