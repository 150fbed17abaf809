"""Tables rendered from result records: in the terminal, in Markdown and in HTML. No number is ever typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import rich.box
import rich.console
import rich.table
import rich.text

from gradiometer.benchmarks.metrics import FIGURES, Interval
from gradiometer.benchmarks.records import Kind, Record
from gradiometer.errors import InputError

TITLES: dict[str, str] = {
    "auroc": "AUROC",
    "aupr_in": "AUPR, known positive",
    "aupr_out": "AUPR, challenge positive",
    "detection_accuracy": "Detection accuracy",
    "tnr_at_95": "TNR at 95 % TPR",
}
"""Names of the figures for readers."""

_MISSING = "-"
_WIDEST = 9
"""Most columns that fit into a terminal."""


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Attributes:
        name: Name of the detector, or what the column shows.
        notes: Small print: the protocol, and `forward only` for a control.
        control: Whether the column is the forward-only control of a gradient detector.
    """

    name: str
    notes: tuple[str, ...] = ()
    control: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is printed.
        interval: Both ends, printed smaller, or nothing.
        best: Whether no other cell of the row under the same protocol is higher.
    """

    text: str
    interval: str = ""
    best: bool = False

    def __str__(self) -> str:
        """Text and interval on one line."""
        return f"{self.text} ({self.interval})" if self.interval else self.text


@dataclass(frozen=True)
class Table:
    """A table, ready to be rendered.

    Attributes:
        title: What the table shows.
        corner: What the rows are.
        columns: Heads of its columns.
        rows: Name of each row and its cells.
    """

    title: str
    corner: str
    columns: tuple[Head, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


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
    chosen = [record for record in records if record.kind == kind]
    if not chosen:
        raise InputError(f"none of the {len(records)} records is of kind {kind!r}; there is nothing to show")
    columns = tuple(dict.fromkeys(_head(record) for record in chosen))
    challenges = tuple(dict.fromkeys(record.challenge for record in chosen))
    found = {(record.challenge, _head(record)): getattr(record.metrics, figure) for record in chosen}
    rows = [(name, _row([found.get((name, column)) for column in columns], columns)) for name in challenges]
    if len(challenges) > 1:
        full = [[found.get((name, column)) for name in challenges] for column in columns]
        rows.append(("mean", _row([_mean(values) for values in full], columns)))
    confidences = sorted({record.confidence for record in chosen})
    percents = " and ".join(f"{100 * value:g} %" for value in confidences)
    title = f"{TITLES[figure]} in percent, with {percents} bootstrap interval over images"
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
    """The tables of the figures, of the realised false-alarm rates, and of the null test if there is one.

    Args:
        records: Records of one benchmark.
        all_figures: Whether all five figures have a table, or the AUROC alone.
    """
    found = [arrange(records, figure) for figure in (FIGURES if all_figures else ("auroc",))]
    if any(record.false_alarms is not None for record in records):
        found.append(arrange_false_alarms(records))
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


def to_page(records: Sequence[Record]) -> str:
    """All tables in Markdown, each under its title.

    Args:
        records: Records of one benchmark.
    """
    return "\n".join(f"**{table.title}**\n\n{to_markdown(table)}" for table in all_tables(records))


def to_rich(table: Table) -> rich.table.Table:
    """The table for the terminal; the best of a row under each protocol is bold, controls are dim."""
    rendered = rich.table.Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        header_style="",
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    rendered.add_column(table.corner, overflow="fold")
    for column in table.columns:
        head = rich.text.Text("\n".join([column.name, *column.notes]))
        rendered.add_column(head, justify="right", style="dim" if column.control else "", overflow="fold")
    for name, cells in table.rows:
        texts = [rich.text.Text(cell.text, style="bold" if cell.best else "") for cell in cells]
        for text, cell in zip(texts, cells, strict=True):
            text.append(f"\n{cell.interval}" if cell.interval else "", style="not bold")
        rendered.add_row(rich.text.Text(name), *texts)
    return rendered


def to_markdown(table: Table) -> str:
    """The table in Markdown without its title, the best of a row under each protocol in bold."""
    heads = [table.corner, *("<br>".join([column.name, *column.notes]) for column in table.columns)]
    lines = [_line(heads), _line(["---"] + ["---:"] * len(table.columns))]
    lines += [
        _line([name, *(f"**{cell.text}**{str(cell)[len(cell.text) :]}" if cell.best else str(cell) for cell in cells)])
        for name, cells in table.rows
    ]
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """The table as one `<table>` with a caption and scoped heads, for a page that brings the styles.

    Classes: `control` for cells of a control, `best` for the best of a row, `interval` and `note` for small print.
    """
    heads = []
    for column in table.columns:
        notes = "".join(f'<br><span class="note">{escape(note)}</span>' for note in column.notes)
        heads.append(f'<th scope="col"{_classes(control=column.control)}>{escape(column.name)}{notes}</th>')
    rows = []
    for name, cells in table.rows:
        parts = [f'<th scope="row">{escape(name)}</th>']
        for column, cell in zip(table.columns, cells, strict=True):
            interval = f'<br><span class="interval">{escape(cell.interval)}</span>' if cell.interval else ""
            marks = _classes(control=column.control, best=cell.best)
            text = f"<strong>{escape(cell.text)}</strong>" if cell.best else escape(cell.text)
            parts.append(f"<td{marks}>{text}{interval}</td>")
        rows.append(f"<tr>{''.join(parts)}</tr>")
    return (
        f"<table><caption>{escape(table.title)}</caption>"
        f'<thead><tr><th scope="col">{escape(table.corner)}</th>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _head(record: Record) -> Head:
    notes = (record.protocol, "forward only") if record.control else (record.protocol,)
    return Head(record.detector, notes, record.control)


def _row(values: Sequence[Interval | float | None], columns: Sequence[Head]) -> tuple[Cell, ...]:
    """Cells of one row; the best under each protocol is found on what is printed, so equal figures are marked alike."""
    cells = [_cell(value) for value in values]
    highest: dict[str, float] = {}
    for cell, column in zip(cells, columns, strict=True):
        if cell.text != _MISSING:
            highest[column.notes[0]] = max(highest.get(column.notes[0], 0.0), float(cell.text))
    return tuple(
        replace(cell, best=cell.text != _MISSING and float(cell.text) >= highest[column.notes[0]])
        for cell, column in zip(cells, columns, strict=True)
    )


def _cell(value: Interval | float | None) -> Cell:
    if value is None:
        return Cell(_MISSING)
    if isinstance(value, float):
        return Cell(f"{100 * value:.1f}")
    return Cell(f"{100 * value.value:.1f}", f"{_end(value.low)}–{_end(value.high)}")


def _end(value: float) -> str:
    """An end of an interval in percent; 100 without decimals, which keeps columns narrow."""
    text = f"{100 * value:.1f}"
    return "100" if text == "100.0" else text


def _inside(rate: float, expected: Interval) -> Cell:
    inside = "inside" if rate in expected else "outside"
    return Cell(f"{100 * expected.low:.2f}–{100 * expected.high:.2f} {inside}")


def _mean(values: Sequence[Interval | None]) -> float | None:
    """Mean over the rows, or nothing when a row is missing."""
    present = [value.value for value in values if value is not None]
    return sum(present) / len(present) if len(present) == len(values) else None


def _confidence(records: Sequence[Record]) -> float:
    return next(record.false_alarms.confidence for record in records if record.false_alarms is not None)


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


def _classes(*, control: bool = False, best: bool = False) -> str:
    names = [name for name, present in (("control", control), ("best", best)) if present]
    return f' class="{" ".join(names)}"' if names else ""
