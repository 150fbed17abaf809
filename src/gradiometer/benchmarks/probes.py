"""Records of linear probes, and their tables: which encoder, which target, which patients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gradiometer.benchmarks import clusters, lines, records
from gradiometer.benchmarks.counts import check_draws
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.rendering import Cell, Head, Table, to_markdown
from gradiometer.severity.contrastive.probe import ProbeResult

SCHEMA = 1
DOUBLES = "test in training"
"""What counts call the test images that are among the training images too."""
ORDERED = 3
"""Classes from which on a target is taken for a grade, and its kappa is recorded as well."""

Kind = Literal["figures", "difference"]


@dataclass(frozen=True)
class ProbeRecord:
    """Linear heads on one encoder for one target, or the difference of two encoders.

    Attributes:
        kind: `figures`, or `difference` of two encoders on the same test images.
        data: Name of the images.
        encoder: Name of the encoder, or `first - second`.
        target: Name of the column.
        heads: `separate` or `joint`.
        figures: Interval of each figure, over patients where they are known.
        counts: Numbers of images and patients by use.
        patientwise: Whether patients are known and none is on both sides.
        shared_patients: Patients that are on both sides of the split.
        pretraining_shared: Test patients whose images, without their targets, the encoder has seen in pre-training;
            None when that is not known.
        seeds: Seeds of the trainings that the figures are means of.
        draws: Bootstrap resamples behind each interval.
        encoder_sha256: Hash of the weights of each training.
        data_sha256: Hash of the pixels by use.
        settings: All other settings.
        versions: Versions of the packages that matter.
        environment: Machine, threads and cores.
        schema: Version of the layout.
    """

    kind: Kind
    data: str
    encoder: str
    target: str
    heads: str
    figures: Mapping[str, Interval]
    counts: Mapping[str, int]
    patientwise: bool
    shared_patients: tuple[str, ...]
    pretraining_shared: int | None
    seeds: tuple[int, ...]
    draws: int
    encoder_sha256: tuple[str, ...]
    data_sha256: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=records.versions)
    environment: Mapping[str, str | int] = field(default_factory=records.environment)
    schema: int = SCHEMA

    @property
    def split(self) -> str:
        """What the split promises, in words."""
        if self.patientwise:
            return "patient-wise"
        if self.shared_patients:
            count = len(self.shared_patients)
            return f"with {count} patient{'s' if count > 1 else ''} on both sides"
        doubles = self.counts.get(DOUBLES, 0)
        if doubles:
            return f"by image, patients not known, {doubles} test image{'s' if doubles > 1 else ''} in the training too"
        return "by image, patients not known"

    @property
    def key(self) -> tuple[str, ...]:
        """What a later record replaces."""
        return (
            self.kind,
            self.data,
            self.encoder,
            self.target,
            self.heads,
            json.dumps(dict(self.settings), sort_keys=True),
        )


def measured(
    results: Sequence[ProbeResult],
    *,
    data: str,
    encoder: str,
    seeds: Sequence[int],
    weights: Sequence[str],
    data_sha256: Mapping[str, str],
    pretraining_shared: int | None = None,
    draws: int = 1000,
    settings: Mapping[str, Any] | None = None,
) -> list[ProbeRecord]:
    """Records of the figures of one encoder, a mean over its trainings.

    Args:
        results: One for each training, of the same targets on the same images.
        data: Name of the images.
        encoder: Name of the encoder.
        seeds: Seed of each training.
        weights: Hash of the weights of each training.
        data_sha256: Hash of the pixels by use.
        pretraining_shared: See `ProbeRecord`.
        draws: Bootstrap resamples.
        settings: All other settings.

    Raises:
        InputError: There are too few resamples.
    """
    check_draws(draws)
    made = []
    for number, first in enumerate(results[0].readings):
        member = results[0].clusters[first.rows]
        found = clusters.means(
            first.truth,
            [result.readings[number].shares for result in results],
            member,
            draws=draws,
            chosen=_figures_of(len(first.values)),
        )
        counts = {"fit": first.train, "test": len(first.rows), "test patients": len(set(member.tolist()))}
        if results[0].doubles:
            counts[DOUBLES] = results[0].doubles
        made.append(
            ProbeRecord(
                "figures",
                data,
                encoder,
                first.target,
                results[0].heads,
                found,
                counts,
                results[0].patientwise,
                results[0].shared,
                pretraining_shared,
                tuple(seeds),
                draws,
                tuple(weights),
                dict(data_sha256),
                dict(settings or {}),
            )
        )
    return made


def compared(
    first: tuple[str, Sequence[ProbeResult]],
    second: tuple[str, Sequence[ProbeResult]],
    like: Sequence[ProbeRecord],
    *,
    draws: int = 1000,
) -> list[ProbeRecord]:
    """Records of the differences of two encoders on the same test images, with paired intervals.

    Args:
        first: Name and trainings of an encoder.
        second: Those of the other.
        like: Records of the figures of the first, from which the rest is taken.
        draws: Bootstrap resamples.
    """
    made = []
    for number, record in enumerate(like):
        reading = first[1][0].readings[number]
        found = clusters.differences(
            reading.truth,
            [result.readings[number].shares for result in first[1]],
            [result.readings[number].shares for result in second[1]],
            first[1][0].clusters[reading.rows],
            draws=draws,
            chosen=_figures_of(len(reading.values)),
        )
        changed = {"kind": "difference", "encoder": f"{first[0]} - {second[0]}", "figures": found, "encoder_sha256": ()}
        made.append(ProbeRecord(**{**_fields(record), **changed}))
    return made


def append(path: Path, record: ProbeRecord) -> None:
    """Add one record to a JSON-lines file and see it onto the disk."""
    lines.append(path, json.dumps(asdict(record), sort_keys=True, allow_nan=False))


def read(path: Path) -> list[ProbeRecord]:
    """All records of a file, the last one of each key; none when there is no file.

    Raises:
        ArtefactError: A line is no record of a probe, or one of a newer schema.
    """
    return lines.latest(path, _made, what="record of a probe", schema=SCHEMA)


def _made(entries: dict[str, Any]) -> ProbeRecord:
    entries["figures"] = {name: Interval(**value) for name, value in entries["figures"].items()}
    for name in ("shared_patients", "seeds", "encoder_sha256"):
        entries[name] = tuple(entries[name])
    return ProbeRecord(**entries)


def arrange(found: Sequence[ProbeRecord], figure: str, kind: Kind = "figures") -> Table:
    """One figure, encoders in the rows and targets in the columns, in percent with intervals.

    Args:
        found: Records.
        figure: Name of the figure; targets that do not have it are left out.
        kind: Which records.
    """
    chosen = [record for record in found if record.kind == kind and figure in record.figures]
    targets = tuple(dict.fromkeys(record.target for record in chosen))
    cells = {(record.encoder, record.target): record.figures[figure] for record in chosen}
    best = {target: max(value.value for (_, name), value in cells.items() if name == target) for target in targets}
    rows = []
    for encoder in dict.fromkeys(record.encoder for record in chosen):
        line = [cells.get((encoder, target)) for target in targets]
        rows.append(
            (
                encoder,
                tuple(
                    _cell(value, signed=kind == "difference", best=value is not None and value.value == best[target])
                    for value, target in zip(line, targets, strict=True)
                ),
            )
        )
    splits = " and ".join(dict.fromkeys(record.split for record in chosen))
    seeds = max((len(record.seeds) for record in chosen), default=1)
    trainings = f", means of {seeds} trainings" if seeds > 1 else ""
    what = "paired differences of encoders, " if kind == "difference" else ""
    title = f"{chosen[0].data if chosen else ''}: {what}{figure} in percent, 95 % interval{trainings}; split {splits}"
    return Table(title, "encoder", tuple(map(Head, targets)), tuple(rows))


def tables(found: Sequence[ProbeRecord]) -> list[Table]:
    """All figures, then all differences."""
    made = []
    for kind in ("figures", "difference"):
        names = dict.fromkeys(name for record in found if record.kind == kind for name in record.figures)
        made += [arrange(found, name, kind) for name in names]
    return made


def to_page(found: Sequence[ProbeRecord]) -> str:
    """All tables in Markdown, each under its title."""
    return "\n".join(f"**{table.title}**\n\n{to_markdown(table)}" for table in tables(found))


def _figures_of(classes: int) -> Mapping[str, clusters.Figure]:
    return clusters.GRADED if classes >= ORDERED else clusters.FIGURES


def _fields(record: ProbeRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _cell(value: Interval | None, *, signed: bool, best: bool) -> Cell:
    if value is None:
        return Cell("-")
    form = "{:+.1f}" if signed else "{:.1f}"
    text, low, high = (form.format(100 * part) for part in (value.value, value.low, value.high))
    return Cell(text, f"{low} to {high}" if signed else f"{low}–{high}", best and not signed)
