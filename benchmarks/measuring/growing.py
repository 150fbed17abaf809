"""Along which sizes of a task the cost is measured, one at a time. A new one is one more entry of `AXES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiometer.models.resnet import ResNet, resnet20
from measuring.contenders import EVERY, FLOOR, INSTRUMENT, STEP
from measuring.markdown import machine_text, number, table, when_text
from measuring.memory import MIB
from measuring.networks import Network, images

SCHEMA = 1

#: What is measured along every axis.
COMMON = ("forward", FLOOR, STEP, INSTRUMENT, "loop")


@dataclass(frozen=True)
class Axis:
    """One size of the task that grows while all others stay.

    Attributes:
        title: The network, and what stays.
        across: What grows.
        sizes: How far.
        network: The network of a size.
        batch: The number of samples of a size.
        further: Contenders besides those of every axis.
    """

    title: str
    across: str
    sizes: tuple[int, ...]
    network: Callable[[int], Network]
    batch: Callable[[int], int]
    further: tuple[str, ...] = ()


def _residual(depth: int) -> Network:
    """A residual network for small images with 6 n + 2 layers."""
    blocks = ((depth - 2) // 6,) * 3
    return Network(f"ResNet-{depth}", lambda: ResNet(blocks, (16, 32, 64), projection=False))


AXES: dict[str, Axis] = {
    "batch": Axis(
        "ResNet-20",
        "samples in a batch",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
        lambda size: _residual(20),
        lambda size: size,
    ),
    "resolution": Axis(
        "ResNet-20, batch 16",
        "pixels on each side",
        (16, 32, 64, 128, 224),
        lambda size: Network("ResNet-20", resnet20, images((3, size, size))),
        lambda size: 16,
    ),
    "depth": Axis("residual networks, batch 32", "layers", (8, 14, 20, 32, 56, 110), _residual, lambda size: 32),
    "classes": Axis(
        "ResNet-20, batch 8",
        "classes",
        (2, 10, 30, 100, 300),
        lambda size: Network("ResNet-20", lambda: resnet20(classes=size)),
        lambda size: 8,
        ("contrast", "class-grams"),
    ),
}


def contenders(name: str) -> tuple[str, ...]:
    """What is measured along an axis."""
    return (*COMMON, *AXES[name].further)


def render(document: Mapping[str, Any]) -> str:
    """The whole document in Markdown."""
    of_axis: dict[str, list[Mapping[str, Any]]] = {}
    for section in document["sections"]:
        of_axis.setdefault(section["axis"], []).append(section)
    machines = dict.fromkeys(machine_text(section["environment"]) for section in document["sections"])
    parts = ["# How the cost grows", *machines]
    for name, sections in of_axis.items():
        parts.append(_axis(name, sorted(sections, key=lambda section: section["size"])))
    return "\n\n".join(parts) + "\n"


def _axis(name: str, sections: Sequence[Mapping[str, Any]]) -> str:
    """Times and memory along one axis, and with which power of the size the times grow in the end."""
    first = sections[0]
    rows = [{row["name"]: row for row in section["rows"]} for section in sections]
    names = list(rows[0])
    headings = [first["across"], *(_SHORT.get(each, each) for each in names), "ours × step", "ours × floor"]
    headings += ["step, MiB", "ours, MiB", "difference"]
    body = [_cells(section["size"], found) for section, found in zip(sections, rows, strict=True)]
    if len(sections) > 1:
        body.append(["power", *(_power(sections, rows, each) for each in names), *[""] * 5])
    reasons = {f"{EVERY[each].title}: {row[each]['reason']}" for row in rows for each in names if row[each]["reason"]}
    lines = ["Milliseconds for a batch.", f"Begun {when_text(first['environment'])}."]
    if name == "classes" and (text := _backward_passes(sections, rows)):
        lines.append(text)
    notes = "\n".join(f"* {reason}" for reason in sorted(reasons))
    title = f"## {first['across'].capitalize()}: {first['of']}"
    return "\n\n".join([title, " ".join(lines), table(headings, body), notes]).rstrip()


#: Headings of the columns.
_SHORT = {
    STEP: "training step",
    INSTRUMENT: "ours",
    "contrast": "every class in turn",
    "class-grams": "every class by class Grams",
}


def _cells(size: int, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    ratios = rows[INSTRUMENT]["ratios"]
    differences = [row["difference"] for row in rows.values() if row["difference"] is not None]
    return [
        str(size),
        *("–" if row["median"] is None else number(1e3 * row["median"]) for row in rows.values()),
        *(f"{ratios[each]:.2f}" if each in ratios else "–" for each in ("to_training_step", "to_floor")),
        *(
            "–" if rows[each]["memory"] is None else number(rows[each]["memory"]["rise"] / MIB)
            for each in (STEP, INSTRUMENT)
        ),
        f"{max(differences):.0e}" if differences else "–",
    ]


def _power(sections: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The slope between the last two sizes on logarithmic axes: 1 means in proportion."""
    found = [
        (section["size"], row[name]["median"])
        for section, row in zip(sections, rows, strict=True)
        if row[name]["median"] is not None
    ]
    if len(found) < 2:
        return "–"
    (before, lower), (after, upper) = found[-2:]
    return f"{math.log(upper / lower) / math.log(after / before):.2f}"


def _backward_passes(sections: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    """What all classes cost in backward passes of the floor, after one forward pass."""
    texts = []
    for section, row in zip(sections, rows, strict=True):
        times = {name: each["median"] for name, each in row.items() if each["median"] is not None}
        backward = times.get(FLOOR, 0.0) - times.get("forward", 0.0)
        words = [
            f"{(times[name] - times['forward']) / backward:.1f} {how}"
            for name, how in (("contrast", "in turn"), ("class-grams", "by class Grams"))
            if name in times and "forward" in times and backward > 0
        ]
        if words:
            texts.append(f"{section['size']} classes: {', '.join(words)}")
    return f"After one forward pass, in backward passes of the floor: {'; '.join(texts)}." if texts else ""
