"""The null test of every data set: two halves of it, one stored again, between which nobody may tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradiometer.benchmarks import begun, ood, records
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit, TableSettings, reencoded
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.tabling import Contents, compare


@dataclass(frozen=True, kw_only=True)
class NullSettings(TableSettings):
    """Settings of `gradiometer benchmark null`: what every table has, and its own.

    Attributes:
        challenges: Data sets to test besides the known one.
    """

    out: Path = Path("null")
    challenges: tuple[str, ...] = ood.CHALLENGES


def run(
    settings: NullSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> tuple[Record, ...]:
    """Test every detector on every set; the first one that tells the halves apart stops everything.

    Args:
        settings: What to run.
        progress: Told about readings and fits.
        finished: Called with the records of each set.

    Returns:
        The records, which are in `out/records.jsonl` too.

    Raises:
        InputError: If a data set is missing or unusable, or a test fails: the message names detector and set.
        ModelError: If the model cannot be loaded or read.
    """
    begun.check(settings)
    kit = Kit.of(settings)
    sets = [(name, kit.load(name, None, settings.limit)) for name in settings.challenges]
    comparison = compare(settings, kit, Contents(name="null", title="", challenges=()), progress)
    path = begun.begin(settings)
    done: list[Record] = []

    def keep(found: list[Record]) -> None:
        for record in found:
            records.append(path, record)
        done.extend(found)
        if finished is not None:
            finished(found)

    keep(comparison.null(reencoded))
    for name, images in sets:
        keep(comparison.null(reencoded, images, f"{name}, re-encoded"))
    return tuple(done)
