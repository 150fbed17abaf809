"""A table and its forms: in the terminal, in Markdown, in HTML and in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import rich.box
import rich.table
import rich.text

from gradiometer.benchmarks.metrics import Interval

MISSING = "-"
"""What stands in a cell without a figure."""


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


def ranked(
    values: Sequence[Interval | float | None], columns: Sequence[Head], *, unit: int = 100, lowest: bool = False
) -> tuple[Cell, ...]:
    """Cells of one row, from intervals or bare figures; the best under each protocol is found on what is printed.

    Args:
        values: The figures.
        columns: The columns that they stand in.
        unit: As for `figure_cell`.
        lowest: Whether the lowest figure is the best one.
    """
    cells = [figure_cell(value, unit=unit) for value in values]
    printed: dict[str, list[float]] = {}
    for cell, column in zip(cells, columns, strict=True):
        if cell.text != MISSING:
            printed.setdefault(column.notes[0], []).append(float(cell.text))
    best = {protocol: min(figures) if lowest else max(figures) for protocol, figures in printed.items()}
    return tuple(
        replace(cell, best=cell.text != MISSING and float(cell.text) == best[column.notes[0]])
        for cell, column in zip(cells, columns, strict=True)
    )


def figure_cell(value: Interval | float | None, *, unit: int = 100) -> Cell:
    """A figure with its interval, or a dash when there is none.

    Args:
        value: The figure, as a share.
        unit: What one is in the unit that is printed: 100 for percent, 1000 for thousandths.
    """
    if value is None:
        return Cell(MISSING)
    if isinstance(value, float):
        return Cell(f"{unit * value:.1f}")
    return Cell(f"{unit * value.value:.1f}", f"{_end(value.low, unit)}–{_end(value.high, unit)}")


def _end(value: float, unit: int) -> str:
    """An end of an interval; all without decimals, which keeps columns narrow."""
    text = f"{unit * value:.1f}"
    return f"{unit}" if text == f"{unit}.0" else text


def mean(values: Sequence[Interval | None]) -> float | None:
    """Mean over the rows, or nothing when a row is missing."""
    present = [value.value for value in values if value is not None]
    return sum(present) / len(present) if len(present) == len(values) else None


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


def to_latex(table: Table) -> str:
    """The table as a `table` environment with a caption, for a document with the package booktabs.

    The best of a row under each protocol is bold; intervals are small, below their figures.
    """
    heads = [table.corner, *("; ".join([column.name, *column.notes]) for column in table.columns)]
    lines = [
        "\\begin{table}",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        "\\toprule",
        " & ".join(_tex(head) for head in heads) + " \\\\",
        "\\midrule",
    ]
    for name, cells in table.rows:
        parts = [f"\\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text) for cell in cells]
        lines.append(" & ".join([_tex(name), *parts]) + " \\\\")
        if any(cell.interval for cell in cells):
            small = [f"{{\\tiny {_tex(cell.interval)}}}" if cell.interval else "" for cell in cells]
            lines.append(" & ".join(["", *small]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _tex(text: str) -> str:
    """Text with what LaTeX would take for commands escaped."""
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "/"))
    return escaped.replace("–", "--").replace("~", "\\textasciitilde{}").replace("^", "\\textasciicircum{}")


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


def _classes(*, control: bool = False, best: bool = False) -> str:
    names = [name for name, present in (("control", control), ("best", best)) if present]
    return f' class="{" ".join(names)}"' if names else ""
