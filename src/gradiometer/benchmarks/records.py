"""Result records: one JSON line a result, with all that is needed to judge and to repeat it."""

from __future__ import annotations

import gzip
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch

from gradiometer.benchmarks import lines
from gradiometer.benchmarks.metrics import Interval, Metrics
from gradiometer.benchmarks.selective import Selective
from gradiometer.errors import ArtefactError, InputError

SCHEMA = 1
"""Version of the layout of a line; a file with a higher one is refused."""

Protocol = Literal["known-only", "matched", "transfer"]
Kind = Literal["detection", "handling", "null"]

_PACKAGES = ("gradiometer", "torch", "torchvision", "numpy", "scikit-learn", "pytorch-ood")


@dataclass(frozen=True)
class RealisedRate:
    """How many unseen known inputs a calibrated detector flagged.

    Attributes:
        asked: The false-alarm rate that was asked for.
        flagged: Number of unseen known inputs that were flagged.
        count: Number of unseen known inputs.
        calibration: Number of known inputs that set the threshold; none of them was fitted on or is among the unseen.
        expected: Binomial interval around the rate that was asked for, at the given number of unseen inputs.
        expected_with_calibration: The same when the draw of the calibration inputs counts too.
        confidence: Confidence of both intervals.
    """

    asked: float
    flagged: int
    count: int
    calibration: int
    expected: Interval
    expected_with_calibration: Interval
    confidence: float = 0.99

    @property
    def realised(self) -> float:
        """Share of the unseen known inputs that were flagged."""
        return self.flagged / self.count


@dataclass(frozen=True)
class Record:
    """One detector on one challenge under one protocol.

    Attributes:
        benchmark: Name of the table, such as `ood` or `demo`.
        kind: `detection`; `null` for known inputs against other known inputs that took the challenge's path; `handling`
            for known inputs that were handled in another way on purpose, as a control.
        model: Specification of the model.
        known: Name of the known data.
        challenge: Name of the challenge.
        detector: Name of the detector.
        protocol: What the detector saw before the test.
        control: Whether the detector reads forward-only statistics, as the control of a gradient detector.
        metrics: The figures with their intervals.
        counts: Numbers of images by use (`fit`, `calibration`, `seen_known`, ...); the tested ones are in `metrics`.
        seed: Seed of splits, detectors and bootstrap.
        draws: Bootstrap resamples behind each interval.
        confidence: Confidence of each interval.
        weights_sha256: Hash of the weights of the model.
        data_sha256: Hash of the pixels of each set.
        versions: Versions of Python and of the packages that matter.
        environment: Machine, threads and cores.
        seconds: Time for fitting and scoring. A known-only detector is fitted once; its fit counts in each record.
        reading_seconds: Time for the shared readings of the challenge.
        false_alarms: The realised false-alarm rate, where the detector was calibrated.
        settings: All other settings of the run.
        trained_on: What the decision network was trained on under the protocol `transfer`.
        by_seed: AUROC by the seed of the decision network; the figures are means over these seeds.
        selective: Figures of selective prediction, where right and wrong predictions were told apart.
        schema: Version of the layout.
    """

    benchmark: str
    kind: Kind
    model: str
    known: str
    challenge: str
    detector: str
    protocol: Protocol
    control: bool
    metrics: Metrics
    counts: Mapping[str, int]
    seed: int
    draws: int
    confidence: float
    weights_sha256: str
    data_sha256: Mapping[str, str]
    versions: Mapping[str, str]
    environment: Mapping[str, str | int]
    seconds: float
    reading_seconds: float = 0.0
    false_alarms: RealisedRate | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str = ""
    by_seed: Mapping[str, float] = field(default_factory=dict)
    selective: Selective | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """Check the closed vocabularies.

        Raises:
            InputError: If protocol or kind is not one of ours.
        """
        if self.protocol not in get_args(Protocol):
            raise InputError(f"protocol must be one of {', '.join(get_args(Protocol))}, got {self.protocol!r}")
        if self.kind not in get_args(Kind):
            raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")

    @property
    def column(self) -> str:
        """Detector and protocol, which together name a column of a table."""
        return f"{self.detector} ({self.protocol})"

    def to_json(self) -> str:
        """The record as one line of JSON without a line break; without figures of selective prediction as before."""
        entries = asdict(self)
        if self.selective is None:
            del entries["selective"]
        return json.dumps(entries, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ArtefactError: If the line is not a record, or one of a newer schema.
        """
        try:
            entries = json.loads(line)
            schema = int(entries["schema"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"not a result record: {line[:60]!r} ({error})") from error
        if schema > SCHEMA:
            raise ArtefactError(f"the record has schema {schema}, known are up to {SCHEMA}; upgrade gradiometer")
        try:
            entries["metrics"] = Metrics.from_dict(entries["metrics"])
            if entries.get("false_alarms") is not None:
                alarms = dict(entries["false_alarms"])
                for name in ("expected", "expected_with_calibration"):
                    alarms[name] = Interval(**alarms[name])
                entries["false_alarms"] = RealisedRate(**alarms)
            if entries.get("selective") is not None:
                entries["selective"] = Selective.from_dict(entries["selective"])
            known_fields = {entry.name for entry in fields(cls)}
            return cls(**{name: value for name, value in entries.items() if name in known_fields})
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"a result record with missing or wrong entries: {line[:60]!r} ({error})") from error


def append(path: Path, record: Record) -> None:
    """Add one record to a JSON-lines file and see it onto the disk, so that an interruption loses nothing finished.

    Args:
        path: The file; it and its folder are made when they are not there.
        record: The record.
    """
    lines.append(path, record.to_json())


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records as a new JSON-lines file."""
    lines.write(path, (record.to_json() for record in records))


def read(path: str | os.PathLike[str]) -> list[Record]:
    """All records of a JSON-lines file.

    Args:
        path: The file; one that ends in `.gz` is unpacked.

    Returns:
        The records in their order.

    Raises:
        ArtefactError: If a line is no record; the message gives its number.
        InputError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file of records at {path}")
    records = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if lines.cut_short(line):
            continue  # its record was never complete
        try:
            records.append(Record.from_json(line))
        except ArtefactError as error:
            raise ArtefactError(f"{path}, line {number}: {error}; delete this line to keep the others") from error
    return records


def read_text(path: Path) -> str:
    """The text of a file, unpacked when its name ends in `.gz`."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    return path.read_text(encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def environment() -> dict[str, str | int]:
    """Machine, system, cores and threads."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
