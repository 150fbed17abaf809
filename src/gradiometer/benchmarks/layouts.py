"""Arrangements of a table besides challenge against detector: beside published figures, transfer, differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradiometer.benchmarks import published
from gradiometer.benchmarks.corruptions import LEVELS
from gradiometer.benchmarks.differences import MEAN, Difference
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.rendering import Cell, Head, Table, figure_cell, mean, ranked

PUBLISHED = "published"
"""The note above a column of figures that are not ours."""

_OURS = (
    "MSP (known-only)",
    "ODIN (known-only)",
    "Mahalanobis (known-only)",
    "LID (matched)",
    "Mahalanobis FE (matched)",
    "Mahalanobis P+FE (matched)",
    "Purview (matched)",
    "Purview with channels (matched)",
    "Gradient norms (matched)",
    "Control (features) (matched)",
    "Control with confidence (matched)",
    "Control with channels (matched)",
    "Guard (known-only)",
    "Guard of seven (known-only)",
)
"""Our columns beside the published ones, as far as they are there."""

_BY_LEVEL = (
    ("Mahalanobis FE (matched)", "Mahalanobis"),
    ("Purview (matched)", "Purview"),
    ("Purview with channels (matched)", "Purview"),
    ("Control (features) (matched)", None),
    ("Control with channels (matched)", None),
    ("Guard (known-only)", None),
    ("Guard of seven (known-only)", None),
)
"""Our columns that get a table by level, and the published column beside each."""


def beside_published(records: Sequence[Record]) -> list[Table]:
    """AUROC in the layout of the published tables, with their figures beside ours.

    Args:
        records: Records of one benchmark on one model.

    Returns:
        One table, or for corruptions one for each detector with a column for each level; none where nothing was
        published.
    """
    others = published.beside(records)
    if not others:
        return []
    if records[0].benchmark == "corruptions":
        return [table for ours, theirs in _BY_LEVEL if (table := _by_level(records, others, ours, theirs)) is not None]
    found = {
        (record.challenge, record.column): record
        for record in records
        if record.kind == "detection" and record.protocol != "transfer"
    }
    there = {column for _, column in found}
    firsts = {column: next(r for (_, c), r in found.items() if c == column) for column in _OURS if column in there}
    names = list(next(iter(others.values())))
    heads = [Head(name, (PUBLISHED,)) for name in names]
    heads += [head(record) for record in firsts.values()]
    rows = []
    for challenge, figures in others.items():
        ours = [found.get((challenge, column)) for column in firsts]
        values = [*figures.values(), *(None if record is None else record.metrics.auroc for record in ours)]
        rows.append((_titled(records[0], challenge), ranked(values, heads)))
    title = f"AUROC in percent beside the published figures, which are others' on other networks ({published.source()})"
    return [Table(title, "challenge", tuple(heads), tuple(rows))]


def transfers(records: Sequence[Record]) -> list[Table]:
    """For each detector a matrix: what it was trained on (rows) against what it was tested on (columns).

    Args:
        records: Records of one benchmark.

    Returns:
        The matrices; `mean` is over the challenges that a detector was not trained on.
    """
    chosen = [record for record in records if record.protocol == "transfer"]
    return [_matrix([r for r in chosen if r.detector == name]) for name in dict.fromkeys(r.detector for r in chosen)]


def arrange_differences(
    differences: Sequence[Difference],
    of: Callable[[Difference], Interval | None] = lambda entry: entry.auroc,
    *,
    what: str = "AUROC in points",
    unit: int = 100,
) -> Table:
    """Paired differences of a figure; means come first, and alone where there are many challenges.

    Args:
        differences: Differences of one benchmark.
        of: The figure; the AUROC unless another is asked for.
        what: Its name and unit, for the title.
        unit: What one is in this unit.
    """
    names = list(dict.fromkeys(entry.challenge for entry in differences))
    means = [name for name in names if name.split(" of ")[0] == MEAN]
    names = means if means and len(names) > _MOST else [*means, *(name for name in names if name not in means)]
    found = {(entry.first, entry.second, entry.challenge): entry for entry in differences}
    rows = [
        (f"{first} minus {second}", tuple(_points(found.get((first, second, name)), of, unit) for name in names))
        for first, second in dict.fromkeys((entry.first, entry.second) for entry in differences)
    ]
    percent = f"{100 * differences[0].confidence:g} %"
    title = f"Paired differences of {what}, with {percent} bootstrap interval over images"
    return Table(title, "difference", tuple(Head(name) for name in names), tuple(rows))


def attack_facts(records: Sequence[Record]) -> list[Table]:
    """What each attack did: how often it succeeded, the noise beside it, and how many rows the rule left."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for record in records:
        facts = record.settings
        if "success rate" in facts and record.challenge not in rows:
            rows[record.challenge] = (
                Cell(f"{100 * facts['success rate']:.1f}"),
                Cell(f"{255 * facts['noise deviation']:.2f}"),
                *(Cell(f"{facts[f'rows: {name}']:.0f}") for name in _COUNTED),
                Cell(f"{record.metrics.known} / {record.metrics.challenge}"),
            )
    if not rows:
        return []
    heads = ("wrong under attack, %", "noise, grey levels", *_COUNTED, "tested, known / attacked")
    title = "What the attacks did, and the rows that are left by the rule: right, right under noise, wrong under attack"
    return [Table(title, "attack", tuple(Head(head) for head in heads), tuple(rows.items()))]


_COUNTED = ("all", "clean right", "noisy right", "attacked wrong", "kept")
_MOST = 15
"""Challenges up to which differences are shown for each of them."""


def _by_level(records: Sequence[Record], others: published.Rows, ours: str, theirs: str | None) -> Table | None:
    found = {record.challenge: record for record in records if record.kind == "detection" and record.column == ours}
    if not found:
        return None
    heads = [Head(f"level {level}") for level in LEVELS]
    if theirs is not None:
        heads += [Head(f"level {level}", (PUBLISHED,)) for level in LEVELS]
    rows = []
    for title in dict.fromkeys(name.rpartition(" ")[0] for name in found):
        names = [f"{title} {level}" for level in LEVELS]
        cells = [figure_cell(found[name].metrics.auroc if name in found else None) for name in names]
        if theirs is not None:
            cells += [figure_cell(others.get(name, {}).get(theirs)) for name in names]
        rows.append((title, tuple(cells)))
    reading = records[0].settings.get("reading", "")
    control = " (forward only)" if next(iter(found.values())).control else ""
    title = f"AUROC of {ours}{control} in percent by level, reading {reading}"
    return Table(title + (f"; published: {theirs}" if theirs else ""), "corruption", tuple(heads), tuple(rows))


def _matrix(records: Sequence[Record]) -> Table:
    names = list(dict.fromkeys(record.challenge for record in records))
    found = {(record.trained_on, record.challenge): record.metrics.auroc for record in records}
    rows = []
    for source in dict.fromkeys(record.trained_on for record in records):
        values: list[Interval | None] = [found.get((source, name)) for name in names]
        away = [value for name, value in zip(names, values, strict=True) if name != source]
        rows.append((source, (*(figure_cell(value) for value in values), figure_cell(mean(away)))))
    control = ", forward only" if records[0].control else ""
    title = f"Transfer: AUROC in percent of {records[0].detector}{control}, trained on the row and tested on the column"
    return Table(title, "trained on", tuple(Head(name) for name in [*names, "mean of the others"]), tuple(rows))


def _points(entry: Difference | None, of: Callable[[Difference], Interval | None], unit: int) -> Cell:
    value = None if entry is None else of(entry)
    if value is None:
        return figure_cell(None)
    return Cell(f"{unit * value.value:+.1f}", f"{unit * value.low:+.1f} to {unit * value.high:+.1f}")


def head(record: Record) -> Head:
    """The head of the column that a record is in."""
    notes = (record.protocol, "forward only") if record.control else (record.protocol,)
    return Head(record.detector, notes, record.control)


def _titled(record: Record, challenge: str) -> str:
    """A challenge with the set that it stands in for."""
    other = published.STAND_INS.get(challenge, challenge) if record.benchmark == "ood" else challenge
    return challenge if other == challenge else f"{challenge} (published: {other})"
