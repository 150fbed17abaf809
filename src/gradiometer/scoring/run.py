"""Scoring a source of images into a file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradiometer import __version__, data, models
from gradiometer.errors import InputError, NotFittedError
from gradiometer.scoring.formats import format_of
from gradiometer.scoring.journal import Journal, Tally, alone
from gradiometer.scoring.rows import Judge, Row, judged

if TYPE_CHECKING:
    from gradiometer.data.sources import Size, Source
    from gradiometer.detectors import Calibration

_WAITING = 4096
"""Unreadable rows in a row after which a portion is scored although it is not full, so that memory stays bounded."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        tally: What is in the file: rows, flagged ones, failures.
        resumed: Rows that an earlier run had written.
        seconds: Time of this run.
    """

    tally: Tally
    resumed: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Rows of this run by its time."""
        return (self.tally.rows - self.resumed) / self.seconds if self.seconds else 0.0


@dataclass
class _Portion:
    """Consecutive rows of the source that are scored together; those that cannot be read stand between the others."""

    names: list[str] = field(default_factory=list)
    images: list[Tensor | None] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    readable: int = 0

    def add(self, batch: data.Batch) -> None:
        """Add a batch of one row."""
        for failure in batch.failures:
            self.names.append(failure.name)
            self.images.append(None)
            self.errors.append(failure.reason)
        for name, image in zip(batch.names, batch.images, strict=True):
            self.names.append(name)
            self.images.append(image)
            self.errors.append(None)
            self.readable += 1


class _Files:
    """What tells the files of the rows so far from others of their names.

    Args:
        states: The states of all files, in the order of the rows.
    """

    def __init__(self, states: Iterator[str]) -> None:
        self._states, self._digest = states, hashlib.sha256()

    def digest(self, rows: int) -> str:
        """The digest after so many more rows."""
        for state in islice(self._states, rows):
            self._digest.update(f"{state}\n".encode("utf-8", "surrogateescape"))
        return self._digest.hexdigest()


def score(
    detector: Judge,
    source: Source,
    out: str | Path,
    *,
    size: Size | None = None,
    channels: int | None = None,
    split: str | None = None,
    root: Source | None = None,
    download: bool = False,
    shard: tuple[int, int] = (1, 1),
    restart: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    deliver: Callable[[Path], None] | None = None,
) -> Summary:
    """Score all images of a source into one file, a portion at a time.

    Rows come in the order of the source, unreadable images among them with the reason. Images go through the model in
    the same portions as in `detector.judge`, so scores are those of `judge` on all readable images to the last bit,
    also when the run is interrupted and called again, which continues after the last row that was written.

    Args:
        detector: A calibrated detector, or a severity model.
        source: What `gradiometer.data.stream` takes: a folder, an .npz or Parquet file, a name.
        out: The file; `.parquet`, `.csv` or `.jsonl`. Until it is complete, its rows are in `OUT.partial`.
        size: As for `stream`; without it images must have the size that the detector was fitted on.
        channels: As for `stream`.
        split: As for `stream`.
        root: As for `stream`.
        download: As for `stream`.
        shard: Which part of the rows, of how many parts: (2, 8) is the second eighth. Parts are consecutive, so that
            the files of all, one after another, hold the rows of the whole source in order, if it stays as it is.
            Machines that share nothing but the source, or copies of it, can score one part each. A score does not
            depend on the part, but for the rounding of other portions.
        restart: Whether to begin again instead of continuing an interrupted run.
        overwrite: Whether to replace a complete file, once the new one is complete.
        progress: Called with the rows that are written and the rows in all.
        deliver: Called with the file of all rows before the run counts as complete; where it fails, the same call
            comes back to it and scores nothing again.

    Returns:
        The summary.

    Raises:
        InputError: If the source or the suffix is unknown, the file exists, there is no such part, images have the
            wrong size, or an interrupted run had other settings or another source.
        ArtefactError: If the file cannot be written. What was written before stays valid, and the same call continues.
        NotFittedError: If the detector is not calibrated.
    """
    out = Path(out)
    form = format_of(out)
    calibration = detector.calibration
    if calibration is None:
        raise NotFittedError("the detector has no false-alarm rate yet; calibrate it before scoring")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} for {out.name}; make it first")
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file")
    started = time.perf_counter()
    settings: dict[str, Any] = {"size": size, "channels": channels, "split": split, "root": root}
    with alone(out):
        if out.exists() and not overwrite:
            raise InputError(f"{out} exists already; choose another file, or overwrite it")
        total = data.count(source, split=split, root=root, download=download)
        rows = _rows_of(shard, total)
        files = _Files(data.states(source, split=split, root=root, skip=rows.start, download=download))
        identity = _identity(detector, calibration, source, settings)
        if shard[1] > 1:
            identity["shard"] = "{}/{}".format(*shard)
        with Journal(out, form, identity, restart=restart) as journal:
            resumed = journal.tally.rows
            first = rows.start + max(0, resumed - 1)
            # One row at a time, so that a portion can end at any row.
            stream = iter(data.stream(source, batch_size=1, shape=detector.shape, skip=first, **settings))
            batches = islice(stream, rows.stop - first)
            if resumed:
                _check_place(next(batches, None), journal, files.digest(resumed))
            for portion in _portions(batches, detector.batch_size):
                journal.commit(_score(detector, portion, journal.tally), files.digest(len(portion.names)))
                if progress is not None:
                    progress(journal.tally.rows, len(rows))
            more = rows.stop == total and next(stream, None) is not None
            _check_unchanged(journal.tally.rows, len(rows), more=more)
            if deliver is not None:
                deliver(journal.partial)
            journal.finish()
    return Summary(journal.tally, resumed, time.perf_counter() - started)


def _check_unchanged(scored: int, counted: int, *, more: bool) -> None:
    """Refuse to call a run complete whose source was another at the end than at the start."""
    if scored != counted or more:
        now = f"{scored:,}" if scored != counted else "more"
        raise InputError(
            f"the source had {counted:,} rows when the run began and has {now} now, so that some would be missing; "
            "what was scored is kept: make the same call again to go on (of all parts, where there are several)"
        )


def _rows_of(shard: tuple[int, int], count: int) -> range:
    """The rows of one part of a source."""
    part, parts = shard
    if not 1 <= part <= parts:
        raise InputError(f"shard is {part} of {parts}; give a part from 1 to the number of parts")
    if parts > count:
        raise InputError(f"the source has {count} rows, which cannot be divided into {parts} shards; use fewer")
    return range(count * (part - 1) // parts, count * part // parts)


def _portions(batches: Iterator[data.Batch], size: int) -> Iterator[_Portion]:
    """Portions of `size` readable images. The next one begins where the last one ended, so a run can resume there."""
    portion = _Portion()
    for batch in batches:
        portion.add(batch)
        if portion.readable == size or len(portion.names) - portion.readable >= _WAITING:
            yield portion
            portion = _Portion()
    if portion.names:
        yield portion


def _score(detector: Judge, portion: _Portion, before: Tally) -> list[Row]:
    images = [image for image in portion.images if image is not None]
    verdicts: Iterator[Row] = iter(())
    if images:
        names = [name for name, image in zip(portion.names, portion.images, strict=True) if image is not None]
        together = torch.stack(images)
        rows = judged(detector, names, together)
        if before.scored == 0 and all(row.error is not None for row in rows):
            detector.judge(together)  # raises: where not one image passes, the fault is not in the images
        verdicts = iter(rows)
    return [
        next(verdicts) if error is None else Row(name, error=error)
        for name, error in zip(portion.names, portion.errors, strict=True)
    ]


def _identity(detector: Judge, calibration: Calibration, source: Source, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in a run that continues another."""
    path = Path(source)
    return {
        "source": str(path.resolve()) if path.exists() else str(source),
        **{name: None if value is None else str(value) for name, value in settings.items()},
        "gradiometer": __version__,  # scores of two versions do not belong in one table
        "detector": type(detector).__name__,
        "weights": models.weights_hash(detector.model),
        "calibration": hashlib.sha256(calibration.scores.tobytes()).hexdigest(),
        "false-alarm rate": calibration.false_alarm_rate,
        "images at once": detector.batch_size,
    }


def _check_place(batch: data.Batch | None, journal: Journal, files: str) -> None:
    """The last row that was written must still be where it was, and the files up to it those that were read."""
    found = [] if batch is None else [*batch.names, *(failure.name for failure in batch.failures)]
    if found != [journal.tally.last]:
        raise InputError(
            f"row {journal.tally.rows} of the source is {found[0] if found else 'missing'} where {journal.partial} has "
            f"{journal.tally.last}: the source changed since the run was interrupted; begin again with restart"
        )
    if journal.tally.files and files != journal.tally.files:
        raise InputError(
            f"the source of the {journal.tally.rows} rows in {journal.partial} was replaced since the run was "
            "interrupted, wholly or in part; begin again with restart"
        )
