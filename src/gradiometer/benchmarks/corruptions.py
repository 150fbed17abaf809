"""The third table: a trained classifier and corrupted versions of its own test images, at five levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradiometer.benchmarks import begun
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit, TableSettings
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.possible import changing
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.sides import Challenge
from gradiometer.benchmarks.tabling import Contents, fill
from gradiometer.challenges import PURVIEW_EIGHT, Corruption, corrupt, corruption
from gradiometer.errors import InputError

READINGS = {"cifar10c": "CIFAR-10-C", "cure": "CURE-TSR"}
"""How the names of the published table are read -> the collection whose corruptions they stand for."""

LEVELS = (1, 2, 3, 4, 5)

DETECTORS = (
    "MSP",
    "Mahalanobis (layers)",
    "Normalised Mahalanobis",
    "KNN",
    "Purview",
    "Control",
    "Guard",
    "Guard of seven",
    "Guard of five",
    "Guard with a step",
    "Guard with gradients",
)
"""The known-only detectors of this table, which has forty challenges."""

MATCHED = (
    "Purview",
    "Purview with channels",
    "Gradient norms",
    "Control",
    "Control (features)",
    "Control with channels",
    "Mahalanobis FE",
)
"""Its matched detectors."""


@dataclass(frozen=True, kw_only=True)
class CorruptionSettings(TableSettings):
    """Settings of `gradiometer benchmark corruptions`: what every table has, and its own.

    Attributes:
        reading: `cifar10c` or `cure`: which corruptions the eight published names stand for.
        types: Which of the eight, by their published names.
        levels: Which levels.
        transfer_level: The level on which detectors are trained and tested for `transfer`.
    """

    out: Path = Path("corruptions")
    reading: str = "cifar10c"
    types: tuple[str, ...] = tuple(PURVIEW_EIGHT)
    levels: tuple[int, ...] = LEVELS
    transfer_level: int = 3


def name_of(title: str, level: int) -> str:
    """How a corruption at a level is called in records."""
    return f"{title} {level}"


def run(
    settings: CorruptionSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Corrupt the held-out images and compare detectors at every level; see `tabling.fill`.

    A corrupted image keeps the base image of its original, by which everything is divided.

    Args:
        settings: What to run.
        progress: Told about corruptions, readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If a reading, type or level is unknown, or the null test fails.
    """
    if settings.reading not in READINGS:
        raise InputError(f"there is no reading {settings.reading!r}; there are: {', '.join(READINGS)}")
    if unknown := [title for title in settings.types if title not in PURVIEW_EIGHT]:
        raise InputError(f"there is no corruption {unknown[0]!r} in the table; there are: {', '.join(PURVIEW_EIGHT)}")
    source = READINGS[settings.reading]
    changes = [
        (name_of(title, level), corruption(PURVIEW_EIGHT[title][source], level))
        for title in settings.types
        for level in settings.levels
    ]
    begun.check(settings)
    kit = Kit.of(settings)
    changes, idle = changing(changes, kit)
    table = Contents(
        name="corruptions",
        title=f"Does {Path(settings.model).name} notice that images are corrupted?",
        challenges=corrupted(changes, settings, kit, progress),
        transferred=tuple(name for name, change in changes if change.level == settings.transfer_level),
        detectors=DETECTORS,
        matched=MATCHED,
        notes=(("reading", settings.reading),),
        said=(f"Read the eight names of the published table as corruptions of {source}.", *idle),
    )
    return fill(settings, kit, table, progress=progress, finished=finished)


def corrupted(
    changes: Sequence[tuple[str, Corruption]], settings: TableSettings, kit: Kit, progress: Progress | None = None
) -> list[Challenge]:
    """Corrupt the held-out images.

    Args:
        changes: The corruptions, each after what it is called.
        settings: Whose seed is taken.
        kit: The known images.
        progress: Told about corruptions.
    """
    challenges = []
    for number, (name, change) in enumerate(changes):
        challenges.append(Challenge(name, corrupt(kit.held_out, change, seed=settings.seed), True))
        if progress is not None:
            progress("corrupting", number + 1, len(changes))
    return challenges
