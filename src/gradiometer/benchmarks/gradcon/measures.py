"""Figures that are no detection: pixels that were found, and costs. One JSON line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gradiometer.benchmarks import lines, records

SCHEMA = 1


@dataclass(frozen=True)
class Measure:
    """One measured figure.

    Attributes:
        part: `tiles` or `cost`.
        subject: What was measured, such as the name of a map.
        figure: Name of the figure.
        value: The figure.
        low: Lower end of its interval; the figure itself when it has none.
        high: Upper end.
        unit: Unit of all three.
        seed: Of the training and the resampling.
        settings: All other settings.
        versions: Versions of the packages that matter.
        environment: Machine, threads and cores.
        schema: Version of the layout.
    """

    part: str
    subject: str
    figure: str
    value: float
    low: float
    high: float
    unit: str
    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=records.versions)
    environment: Mapping[str, str | int] = field(default_factory=records.environment)
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[str, ...]:
        """What a later measure replaces."""
        settings = json.dumps(dict(self.settings), sort_keys=True)
        return self.part, self.subject, self.figure, str(self.seed), settings


def append(path: Path, measure: Measure) -> None:
    """Add one measure to a JSON-lines file and see it onto the disk."""
    lines.append(path, json.dumps(asdict(measure), sort_keys=True, allow_nan=False))


def read(path: Path) -> list[Measure]:
    """All measures of a file, the last one of each key; none when there is no file.

    Raises:
        ArtefactError: A line is no measure, or one of a newer schema.
    """
    return lines.latest(path, lambda entries: Measure(**entries), what="measure", schema=SCHEMA)
