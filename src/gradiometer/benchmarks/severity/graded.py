"""Result records of scores against grades: one JSON line each, as those of detection are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gradiometer.benchmarks import lines, records
from gradiometer.benchmarks.grades import Agreement
from gradiometer.benchmarks.metrics import Interval

SCHEMA = 1


@dataclass(frozen=True)
class Graded:
    """One score of one model against the grades of test scans.

    Attributes:
        part: `retina` or `oct`.
        model: What the score was read off.
        score: Name of the score.
        contrast: What was done to the scans first.
        control: Whether the score needs no gradient.
        seed: Of split, training and bootstrap.
        test: Agreement on the test scans.
        validation: Agreement on the validation scans, by which settings were chosen; None where there are none.
        gain: Rank correlation on the test scans minus that of the reconstruction error of the same network, with a
            paired interval; None where that means nothing.
        counts: Numbers of scans by use.
        data_sha256: Hash of the pixels of each set.
        weights_sha256: Hash of the weights, or empty.
        settings: All other settings.
        versions: Versions of the packages that matter.
        environment: Machine, threads and cores.
        schema: Version of the layout.
    """

    part: str
    model: str
    score: str
    contrast: str
    control: bool
    seed: int
    test: Agreement
    validation: Agreement | None
    gain: Interval | None
    counts: Mapping[str, int]
    data_sha256: Mapping[str, str]
    weights_sha256: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=records.versions)
    environment: Mapping[str, str | int] = field(default_factory=records.environment)
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[str, ...]:
        """What a later record replaces."""
        settings = json.dumps(dict(self.settings), sort_keys=True)
        return self.part, self.model, self.score, self.contrast, str(self.seed), settings


def append(path: Path, record: Graded) -> None:
    """Add one record to a JSON-lines file and see it onto the disk."""
    lines.append(path, json.dumps(asdict(record), sort_keys=True, allow_nan=False))


def read(path: Path) -> list[Graded]:
    """All records of a file, the last one of each key; none when there is no file.

    Raises:
        ArtefactError: A line is no record, or one of a newer schema.
    """
    return lines.latest(path, _made, what="record of grades", schema=SCHEMA)


def _made(entries: dict[str, Any]) -> Graded:
    for name in ("test", "validation"):
        entries[name] = None if entries[name] is None else Agreement.from_dict(entries[name])
    entries["gain"] = None if entries["gain"] is None else Interval(**entries["gain"])
    return Graded(**entries)
