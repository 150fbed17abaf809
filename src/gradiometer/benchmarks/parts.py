"""What benchmarks share that are run a part at a time and keep trained networks between parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from gradiometer.benchmarks.evidence import Progress
from gradiometer.errors import InputError

RECORDS = "records.jsonl"


class Folders:
    """Where a benchmark with settings `out` and `cache` keeps what it makes."""

    out: Path
    cache: Path | None

    @property
    def networks(self) -> Path:
        """Where trained networks are kept."""
        return self.cache or self.out / "networks"

    @property
    def records(self) -> Path:
        """The file of the result records."""
        return self.out / RECORDS


class _Kept(Protocol):
    @property
    def records(self) -> Path: ...


Settings = TypeVar("Settings", bound=_Kept)
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Bench(Generic[Settings, Entry]):
    """What all parts share: the settings, and who is told.

    Attributes:
        settings: What to run.
        progress: Told what is being done.
        finished: Called with each new record.
    """

    settings: Settings
    progress: Progress | None = None
    finished: Callable[[Entry], None] | None = None

    def say(self, what: str, done: int, total: int) -> None:
        """Report progress, if anybody listens."""
        if self.progress is not None:
            self.progress(what, done, total)

    def keep(self, found: Entry, append: Callable[[Path, Entry], None]) -> None:
        """Write a record down, and tell of it."""
        append(self.settings.records, found)
        if self.finished is not None:
            self.finished(found)


def check_names(given: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[str]]) -> None:
    """Refuse names that nobody knows.

    Args:
        given: Names by what they are names of.
        known: Those that there are.

    Raises:
        InputError: A name is unknown.
    """
    for what, names in given.items():
        for name in names:
            if name not in known[what]:
                raise InputError(f"there is no {what} {name!r}; choose from {', '.join(known[what])}")
