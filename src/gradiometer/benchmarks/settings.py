"""What the engine of the tables is told, whatever the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What a comparison is called and how it draws.

    Attributes:
        benchmark: Name of the table.
        model: Specification of the model.
        known: Name of the known data.
        seed: Of splits, known-only detectors and bootstrap.
        seeds: Of the matched detectors; their figures are means over these.
        draws: Bootstrap resamples behind each interval.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.
        notes: All other settings, for the records.
        detectors: Names of the known-only detectors; all when there are none. Guard, whose verdicts are shown, is one.
        matched: Names of the matched detectors; all when None.
    """

    benchmark: str
    model: str
    known: str
    seed: int = 0
    seeds: tuple[int, ...] = (0,)
    draws: int = 1000
    false_alarm_rate: float = 0.05
    neighbours: int = 10
    notes: Mapping[str, Any] = field(default_factory=dict)
    detectors: tuple[str, ...] = ()
    matched: tuple[str, ...] | None = None
