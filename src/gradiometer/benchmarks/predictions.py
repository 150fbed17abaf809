"""Tables of right and wrong predictions: what refusing the least trustworthy ones leaves of errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradiometer.benchmarks import layouts
from gradiometer.benchmarks.differences import Difference
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.rendering import Cell, Head, Table, figure_cell, mean, ranked

_UNIT = 1000
"""Areas under the risk-coverage curve are small, and printed in thousandths."""


@dataclass(frozen=True)
class _Shown:
    """How a figure of selective prediction is printed."""

    title: str
    unit: int = 100
    lowest: bool = False


_FIGURES = {
    "aurc": _Shown("AURC, area under the risk-coverage curve, in thousandths (lower = better)", _UNIT, lowest=True),
    "excess_aurc": _Shown("Excess AURC, in thousandths (0 = all wrong predictions last)", _UNIT, lowest=True),
    "accuracy_at_95": _Shown("Accuracy of the 95 % that are kept, in percent"),
    "accuracy_at_80": _Shown("Accuracy of the 80 % that are kept, in percent"),
}


def arrange_selective(records: Sequence[Record], *, all_figures: bool = True) -> list[Table]:
    """How many predictions are right, and every figure of selective prediction; none where nothing was recorded.

    Args:
        records: Records of one benchmark; a later record of the same cell replaces an earlier one.
        all_figures: Whether all figures have a table, or the AURC alone.
    """
    chosen = [r for r in records if r.selective is not None and r.kind == "detection" and r.protocol != "transfer"]
    if not chosen:
        return []
    found = {(r.challenge, layouts.head(r)): r.selective for r in chosen}
    columns = tuple(dict.fromkeys(head for _, head in found))
    challenges = list(dict.fromkeys(challenge for challenge, _ in found))
    percents = " and ".join(f"{100 * value:g} %" for value in sorted({r.confidence for r in chosen}))
    tables = [_counts(chosen)]
    for figure in _FIGURES if all_figures else ("aurc",):
        shown = _FIGURES[figure]
        cells = {
            name: [None if (one := found.get((name, head))) is None else getattr(one, figure) for head in columns]
            for name in challenges
        }
        rows: dict[str, Sequence[Interval | float | None]] = dict(cells)
        if len(challenges) > 1:
            rows["mean"] = [mean(values) for values in zip(*cells.values(), strict=True)]
        ready = [(name, ranked(row, columns, unit=shown.unit, lowest=shown.lowest)) for name, row in rows.items()]
        title = f"{shown.title}, with {percents} bootstrap interval over base images"
        tables.append(Table(title, "challenge", columns, tuple(ready)))
    return tables


def arrange_risks(differences: Sequence[Difference]) -> list[Table]:
    """Paired differences of AURC; none where there are none.

    Args:
        differences: Differences of one benchmark.
    """
    chosen = [entry for entry in differences if entry.aurc is not None]
    if not chosen:
        return []
    what = "AURC in thousandths (negative: the first is better)"
    return [layouts.arrange_differences(chosen, lambda entry: entry.aurc, what=what, unit=_UNIT)]


def _counts(records: Sequence[Record]) -> Table:
    """How often the model is wrong, and what the best and a blind order of its predictions come to."""
    rows: dict[str, tuple[Cell, ...]] = {}
    for record in records:
        found = record.selective
        if found is not None:
            rows[record.challenge] = (
                Cell(f"{record.settings['rows: all']:.0f}"),
                Cell(f"{record.settings['rows: wrong']:.0f}"),
                Cell(f"{found.right} / {found.wrong}"),
                figure_cell(found.accuracy),
                Cell(f"{_UNIT * (found.aurc.value - found.excess_aurc.value):.1f}"),
                Cell(f"{_UNIT * (1 - found.accuracy.value):.1f}"),
            )
    heads = ("images", "wrong", "tested, right / wrong", "accuracy, %", "AURC, perfect order", "AURC, blind order")
    title = "What the model gets wrong, and the AURC, in thousandths, of the best order of its predictions and of none"
    return Table(title, "row", tuple(Head(name) for name in heads), tuple(rows.items()))
