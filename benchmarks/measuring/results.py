"""From raw times to the document that is written: rows, ratios, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from measuring.contenders import FLOOR, INSTRUMENT, STEP
from measuring.markdown import machine_text, number, table, when_text
from measuring.memory import MIB
from measuring.networks import NETWORKS, Network
from measuring.timing import quartiles

SCHEMA = 2

#: Ratios of a row: their name in the JSON, the row they refer to, and their heading.
_REFERENCES = (
    ("to_training_step", STEP, "× step"),
    ("to_floor", FLOOR, "× floor"),
    ("to_instrument", INSTRUMENT, "× ours"),
)


@dataclass
class Row:
    """One contender on one network and batch.

    Attributes:
        name: Its name in the table of contenders.
        title: Its name for readers.
        kind: Its kind, see `contenders`.
        seconds: Every time that was taken, of one call for the whole batch.
        memory: Baseline, peak and rise in bytes, in a process of its own; None when not measured.
        single: Whether one call took so long that it was not timed in turns with the others.
        difference: Largest relative difference of its statistic to the plain loop; None for a bound.
        per_parameter: Whether it gives the statistic of each parameter, or only its sum; None for a bound.
        note: What a reader has to know.
        reason: Why it did not run, empty when it did.
    """

    name: str
    title: str
    kind: str
    seconds: list[float] = field(default_factory=list)
    memory: dict[str, Any] | None = None
    single: bool = False
    difference: float | None = None
    per_parameter: bool | None = None
    note: str = ""
    reason: str = ""

    def to_dict(self, rows: Mapping[str, Row]) -> dict[str, Any]:
        """The row with its medians, quartiles and ratios to other rows of the same network and batch."""
        entries = {**vars(self), "ratios": {}, "median": None, "quartiles": None}
        if self.seconds:
            first, middle, third = quartiles(self.seconds)
            entries |= {"median": middle, "quartiles": [first, third]}
            for name, reference, _ in _REFERENCES:
                if reference in rows and rows[reference].seconds:
                    entries["ratios"][name] = middle / quartiles(rows[reference].seconds)[1]
        if self.memory is not None and STEP in rows and (step := rows[STEP].memory) is not None and step["rise"]:
            entries["ratios"]["memory_to_training_step"] = self.memory["rise"] / step["rise"]
        return entries


def section(network: Network, *, batch: int, tensors: int, values: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything about one network and batch.

    Args:
        network: The network and its task.
        batch: Number of samples.
        tensors: Number of parameter tensors.
        values: Number of parameters.
        rows: One for each contender.
    """
    by_name = {row.name: row for row in rows}
    return {
        "title": network.title,
        "statistic": network.statistic.title,
        "batch": batch,
        "parameter_tensors": tensors,
        "parameters": values,
        "rows": [row.to_dict(by_name) for row in rows],
    }


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    sections = in_order(document["sections"])
    machines = list(dict.fromkeys(machine_text(each["environment"]) for each in sections))
    parts = ["# The instrument against its bounds and its peers"]
    parts += [f"Machine {number}: {text}" if len(machines) > 1 else text for number, text in enumerate(machines, 1)]
    for each in sections:
        parts.append(_section(each, machines if len(machines) > 1 else []))
    return "\n\n".join(parts) + "\n"


def in_order(sections: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sections as their networks stand in the table, the smallest batch first; one that left the table comes last."""
    places = {name: place for place, name in enumerate(NETWORKS)}
    return sorted(sections, key=lambda each: (places.get(each["network"], len(places)), each["batch"]))


def _section(found: Mapping[str, Any], machines: Sequence[str]) -> str:
    headings = ["", "ms", "quartiles", "n", "ms / sample", *(heading for *_, heading in _REFERENCES)]
    headings += ["peak MiB", "× step memory", "difference"]
    body: list[list[str]] = []
    notes: dict[str, int] = {}
    for row in found["rows"]:
        single = "timed once, because a call takes longer than there was patience for" if row["single"] else ""
        texts = [f"did not run: {row['reason']}" if row["reason"] else "", row["note"], single]
        marks = [notes.setdefault(text, len(notes) + 1) for text in texts if text]
        body.append([row["title"] + "".join(f" [{mark}]" for mark in marks), *_cells(row, found["batch"])])
    title = (
        f"## {found['title']}, batch {found['batch']} "
        f"({found['parameters']:,} parameters in {found['parameter_tensors']} tensors)"
    )
    when = f"{found['statistic'].capitalize()}. {when_text(found['environment'])}."
    if machines:
        when += f" Machine {machines.index(machine_text(found['environment'])) + 1}."
    footnotes = "\n".join(f"{mark}. {text}" for text, mark in notes.items())
    return "\n\n".join([title, when, table(headings, body), footnotes]).rstrip()


def _cells(row: Mapping[str, Any], batch: int) -> list[str]:
    if row["median"] is None:
        times = ["–"] * (4 + len(_REFERENCES))
    else:
        first, third = row["quartiles"]
        times = [
            number(1e3 * row["median"]),
            f"{number(1e3 * first)}–{number(1e3 * third)}",
            str(len(row["seconds"])),
            number(1e3 * row["median"] / batch),
            *(_ratio(row["ratios"].get(name)) for name, *_ in _REFERENCES),
        ]
    memory = "–" if row["memory"] is None else number(row["memory"]["rise"] / MIB)
    difference = "–" if row["difference"] is None else f"{row['difference']:.0e}"
    return [*times, memory, _ratio(row["ratios"].get("memory_to_training_step")), difference]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
