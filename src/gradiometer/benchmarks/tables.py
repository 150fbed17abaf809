"""Tables rendered from result records: in the terminal, in Markdown and in HTML. No number is ever typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import rich.console

from gradiometer.benchmarks import families, layouts, predictions
from gradiometer.benchmarks.differences import Difference
from gradiometer.benchmarks.layouts import head
from gradiometer.benchmarks.metrics import FIGURES, Interval
from gradiometer.benchmarks.records import Kind, Record
from gradiometer.benchmarks.rendering import Cell, Head, Table, mean, ranked, to_latex, to_markdown, to_rich
from gradiometer.errors import InputError

TITLES: dict[str, str] = {
    "auroc": "AUROC",
    "aupr_in": "AUPR, known positive",
    "aupr_out": "AUPR, challenge positive",
    "detection_accuracy": "Detection accuracy",
    "tnr_at_95": "TNR at 95 % TPR",
}
"""Names of the figures for readers."""

_WIDEST = 9
"""Most columns that fit into a terminal."""


def arrange(records: Sequence[Record], figure: str = "auroc", *, kind: Kind = "detection") -> Table:
    """One figure for every challenge (rows) and detector (columns), in percent with intervals, and the mean row.

    Args:
        records: Records of one benchmark; a later record of the same cell replaces an earlier one.
        figure: One of the figures of `Metrics`.
        kind: Which records to show.

    Returns:
        The table. Rows and columns come in the order in which the records do.

    Raises:
        InputError: If the figure is unknown, or no record is of this kind.
    """
    if figure not in FIGURES:
        raise InputError(f"figure must be one of {', '.join(FIGURES)}, got {figure!r}")
    chosen = [record for record in records if record.kind == kind and record.protocol != "transfer"]
    if not chosen:
        raise InputError(f"none of the {len(records)} records is of kind {kind!r}; there is nothing to show")
    columns = tuple(dict.fromkeys(head(record) for record in chosen))
    challenges = tuple(dict.fromkeys(record.challenge for record in chosen))
    found = {(record.challenge, head(record)): getattr(record.metrics, figure) for record in chosen}
    rows = [(name, ranked([found.get((name, column)) for column in columns], columns)) for name in challenges]
    if len(challenges) > 1:
        full = [[found.get((name, column)) for name in challenges] for column in columns]
        rows.append(("mean", ranked([mean(values) for values in full], columns)))
    confidences = sorted({record.confidence for record in chosen})
    percents = " and ".join(f"{100 * value:g} %" for value in confidences)
    title = f"{TITLES[figure]} in percent, with {percents} bootstrap interval over images"
    seeds = max(len(record.by_seed) for record in chosen)
    if seeds:
        title += f"; matched detectors are means over {seeds} seeds"
    return Table(title, "challenge", columns, tuple(rows))


def arrange_false_alarms(records: Sequence[Record]) -> Table:
    """The realised false-alarm rate of every calibrated detector on unseen known inputs, in percent.

    Args:
        records: Records of one benchmark.

    Returns:
        One row for each detector, and for each challenge that a matched detector was fitted with. Of the two intervals
        around the rate that was asked for, the second takes the draw of the calibration inputs into account.

    Raises:
        InputError: If no record has a realised rate.
    """
    rows: dict[str, tuple[Cell, ...]] = {}
    for record in records:
        alarms = record.false_alarms
        if alarms is None or record.kind != "detection":
            continue
        name = record.column if record.protocol == "known-only" else f"{record.column}, {record.challenge}"
        rows[name] = (
            Cell(f"{100 * alarms.asked:g}"),
            Cell(f"{100 * alarms.realised:.2f}"),
            _inside(alarms.realised, alarms.expected),
            _inside(alarms.realised, alarms.expected_with_calibration),
            Cell(f"{alarms.flagged} of {alarms.count}"),
            Cell(str(alarms.calibration)),
        )
    if not rows:
        raise InputError("none of the records has a realised false-alarm rate")
    percent = f"{100 * _confidence(records):g} %"
    heads = ("asked", "realised", f"{percent} binomial", f"{percent} with calibration", "flagged", "calibrated on")
    columns = tuple(Head(head) for head in heads)
    return Table(
        "Realised false-alarm rate on unseen known images, in percent", "detector", columns, tuple(rows.items())
    )


def all_tables(records: Sequence[Record], *, all_figures: bool = True) -> list[Table]:
    """The tables beside published figures, of families, of all figures, of transfer, false alarms, and the null test.

    Where right and wrong predictions were told apart, those of selective prediction come after those of all figures.

    Those come that there are records for.

    Args:
        records: Records of one benchmark.
        all_figures: Whether all five figures have a table, or the AUROC alone.
    """
    found = [*layouts.beside_published(records), *families.arrange_families(records)]
    if any(record.kind == "detection" for record in records):
        found += [arrange(records, figure) for figure in (FIGURES if all_figures else ("auroc",))]
    found += predictions.arrange_selective(records, all_figures=all_figures)
    found += layouts.transfers(records) + layouts.attack_facts(records)
    if any(record.false_alarms is not None for record in records):
        found.append(arrange_false_alarms(records))
    if any(record.kind == "handling" for record in records):
        handled = arrange(records, kind="handling")
        found.append(replace(handled, title=f"Known images, handled in another way on purpose: {handled.title}"))
    if any(record.kind == "null" for record in records):
        null = arrange(records, kind="null")
        found.append(replace(null, title=f"Null test: {null.title}"))
    return found


def turned(table: Table) -> Table:
    """The same table with rows and columns exchanged; what stands above a column is in front of its row."""
    heads = [", ".join([head.name, *head.notes]) for head in table.columns]
    cells = zip(*(cells for _, cells in table.rows), strict=True)
    columns = tuple(Head(name) for name, _ in table.rows)
    return Table(table.title, "detector", columns, tuple(zip(heads, cells, strict=True)))


def show(records: Sequence[Record], console: rich.console.Console, *, all_figures: bool = True) -> None:
    """Print all tables; those with many detectors have one in each row.

    Args:
        records: Records of one benchmark.
        console: Where to print.
        all_figures: As for `all_tables`.
    """
    for table in all_tables(records, all_figures=all_figures):
        console.print(to_rich(turned(table) if len(table.columns) > _WIDEST else table))


def to_page(
    records: Sequence[Record], differences: Sequence[Difference] = (), *, all_figures: bool = True, latex: bool = False
) -> str:
    """All tables in Markdown, each under its title, or in LaTeX.

    Args:
        records: Records of one benchmark.
        differences: Paired differences of the same benchmark.
        all_figures: As for `all_tables`.
        latex: Whether to write LaTeX.
    """
    found = all_tables(records, all_figures=all_figures)
    if differences:
        found.append(layouts.arrange_differences(differences))
        found += predictions.arrange_risks(differences)
    if latex:
        return "\n".join(to_latex(table) for table in found)
    return "\n".join(f"**{table.title}**\n\n{to_markdown(table)}" for table in found)


def _inside(rate: float, expected: Interval) -> Cell:
    inside = "inside" if rate in expected else "outside"
    return Cell(f"{100 * expected.low:.2f}–{100 * expected.high:.2f} {inside}")


def _confidence(records: Sequence[Record]) -> float:
    return next(record.false_alarms.confidence for record in records if record.false_alarms is not None)
