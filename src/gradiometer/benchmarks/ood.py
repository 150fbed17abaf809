"""The first table: a trained classifier, its own test images, and whole sets of images that it was not trained for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradiometer.benchmarks import begun
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit, TableSettings
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.possible import others
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.sides import Challenge
from gradiometer.benchmarks.tabling import Contents, fill
from gradiometer.data import reencode

CHALLENGES = ("street_chars", "tiny_imagenet", "scenes", "gtsrb", "mnist", "fashion_mnist", "cifar100")
"""The challenges of the first table."""

JPEG_CONTROL = "known as JPEG"
"""Name of the control for challenges that were JPEG: the known images themselves, compressed."""


@dataclass(frozen=True, kw_only=True)
class OodSettings(TableSettings):
    """Settings of `gradiometer benchmark ood`: what every table has, and its own.

    Attributes:
        challenges: Data sets that the model was not trained for; of each, the test split, or the only one there is.
        jpeg: Quality at which known images are compressed as a control for challenges that were JPEG, or None.
    """

    out: Path = Path("ood")
    challenges: tuple[str, ...] = CHALLENGES
    jpeg: int | None = 75


def run(
    settings: OodSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Compare all detectors on all challenges; see `tabling.fill`.

    Args:
        settings: What to run.
        progress: Told about readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If a data set is missing or unusable, or the null test fails.
        ModelError: If the model cannot be loaded or read.
    """
    begun.check(settings)
    kit = Kit.of(settings)
    names, said = others(settings.challenges, settings.known)
    challenges = [Challenge(name, kit.load(name, None, settings.limit)) for name in names]
    if settings.jpeg is not None:
        challenges.append(Challenge(JPEG_CONTROL, reencode(kit.held_out, settings.jpeg), True, handling=True))
        said += (f"Compressed known images as JPEG of quality {settings.jpeg}, to see what is found of that alone.",)
    table = Contents(
        name="ood",
        title=f"What does {Path(settings.model).name} do with images that it was not trained for?",
        challenges=challenges,
        transferred=tuple(names),
        said=said,
    )
    return fill(settings, kit, table, progress=progress, finished=finished)
