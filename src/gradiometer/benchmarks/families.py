"""Guard beside all baselines on a table of several families of challenges: means, and where it falls short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradiometer.benchmarks.differences import BALANCED, GUARDS, JUDGE, MEAN, mean_of
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.rendering import Cell, Head, Table, ranked
from gradiometer.benchmarks.sides import FAMILY

OURS = ("Guard", "Purview", "Control")
"""How the names of detectors begin that are no baselines."""


@dataclass(frozen=True)
class Shortfall:
    """A kind of challenge with the best baseline on it.

    Attributes:
        challenge: Name of the kind.
        family: Its family.
        guard: AUROC of Guard.
        baseline: The known-only baseline with the highest AUROC.
        best: Its AUROC.
    """

    challenge: str
    family: str
    guard: float
    baseline: str
    best: float

    @property
    def gap(self) -> float:
        """How far Guard is behind; below zero where it is ahead."""
        return self.best - self.guard


def shortfalls(records: Sequence[Record], column: str = JUDGE) -> list[Shortfall]:
    """Guard beside the best baseline of every kind, the largest shortfall first.

    Args:
        records: Records of one table on one model.
        column: Which Guard.
    """
    families = _families(records)
    return ranked_shortfalls(areas(records), families, column)


def ranked_shortfalls(
    found: Mapping[str, Mapping[str, float]], families: Mapping[str, str], column: str
) -> list[Shortfall]:
    """A column beside the best baseline of every kind, the largest shortfall first.

    Args:
        found: AUROC of every known-only detector on every kind, as `areas` gives them.
        families: The family of each kind; kinds without one have none.
        column: Which Guard; kinds without it are left out.
    """
    entries = []
    for challenge, values in found.items():
        baselines = {name: value for name, value in values.items() if not name.startswith(OURS)}
        if column in values and baselines:
            best = max(baselines, key=lambda name: baselines[name])
            entries.append(Shortfall(challenge, families.get(challenge, ""), values[column], best, baselines[best]))
    return sorted(entries, key=lambda entry: -entry.gap)


def areas(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """AUROC of every known-only detector on every kind that has a family.

    Args:
        records: Records of one table on one model.
    """
    found: dict[str, dict[str, float]] = {challenge: {} for challenge in _families(records)}
    for record in records:
        if record.challenge in found and record.kind == "detection" and record.protocol == "known-only":
            found[record.challenge][record.column] = record.metrics.auroc.value
    return found


def arrange_families(records: Sequence[Record]) -> list[Table]:
    """Means of every known-only detector over all kinds and over each family, and the shortfalls of Guard.

    A detector without a figure of one of the kinds has no mean over it.

    Args:
        records: Records of one table on one model.

    Returns:
        Two tables; none where challenges have no families.
    """
    families = _families(records)
    if not families:
        return []
    found = areas(records)
    columns = list(dict.fromkeys(name for values in found.values() for name in values))
    heads = [Head(name.removesuffix(" (known-only)"), ("known-only",)) for name in columns]
    names = list(dict.fromkeys(families.values()))
    rows: dict[str, list[float | None]] = {}
    for name in columns:
        means = [_mean([found[c].get(name) for c, f in families.items() if f == family]) for family in names]
        every = _mean([found[challenge].get(name) for challenge in families])
        titles = [MEAN, *(mean_of(family) for family in names), BALANCED]
        for title, value in zip(titles, [every, *means, _mean(means)], strict=True):
            rows.setdefault(title, []).append(value)
    counts = {MEAN: len(families), **{mean_of(n): list(families.values()).count(n) for n in names}}
    counted = {title: f"{title} ({_kinds(counts[title])})" if title in counts else title for title in rows}
    means_table = Table(
        "Mean AUROC in percent: over all kinds, each counted once; over each family; over the means of the families",
        "mean",
        tuple(heads),
        tuple((counted[title], ranked(values, heads)) for title, values in rows.items()),
    )
    judges = [name for name in GUARDS if name in columns]
    return [means_table, *(_shortfall_table(ranked_shortfalls(found, families, name), name) for name in judges[:1])]


def _mean(values: Sequence[float | None]) -> float | None:
    """Their mean, or nothing when one is missing."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


def _shortfall_table(found: Sequence[Shortfall], column: str) -> Table:
    guard = column.removesuffix(" (known-only)")
    rows = tuple(
        (
            entry.challenge,
            (
                Cell(entry.family),
                Cell(f"{100 * entry.guard:.1f}"),
                Cell(f"{100 * entry.best:.1f}"),
                Cell(entry.baseline.removesuffix(" (known-only)")),
                Cell(f"{100 * entry.gap:+.1f}"),
            ),
        )
        for entry in found
    )
    heads = ("family", guard, "best baseline", "which", f"{guard} is behind by")
    title = f"AUROC of {guard} in percent beside the best known-only baseline of each kind, the largest shortfall first"
    return Table(title, "challenge", tuple(Head(name) for name in heads), rows)


def _kinds(count: int) -> str:
    return "1 kind" if count == 1 else f"{count} kinds"


def _families(records: Sequence[Record]) -> dict[str, str]:
    return {r.challenge: r.settings[FAMILY] for r in records if r.kind == "detection" and FAMILY in r.settings}
