"""The published tables that ours stand beside: figures of others, on other networks and partly on other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from gradiometer.benchmarks.corruptions import READINGS
from gradiometer.benchmarks.records import Record

Rows = dict[str, dict[str, float]]
"""Challenge, as ours are called -> column -> AUROC in [0, 1]."""

STAND_INS = {"street_chars": "SVHN", "tiny_imagenet": "TinyImageNet", "scenes": "LSUN", "cifar10": "CIFAR-10"}
"""Our data sets -> those of the published table. Street characters and scenes are stand-ins, not the same sets."""

_CIFAR, _OF_CIFAR = "cifar10", "cifar10c"
"""The known images of one of the published tables of corruptions, and how its corruptions are read."""

_NETWORKS = {"densenet": "DenseNet"}
_DEFAULT = "ResNet"


def source() -> str:
    """Where the figures are from."""
    return str(_entries()["source"])


def beside(records: Sequence[Record]) -> Rows:
    """The published AUROC for the challenges of a table, as far as there are any.

    Args:
        records: Records of one benchmark on one model.
    """
    if not records:
        return {}
    first = records[0]
    if first.benchmark not in ("ood", "attacks", "corruptions"):
        return {}
    table = _entries()[first.benchmark]
    names = list(dict.fromkeys(record.challenge for record in records if record.kind == "detection"))
    if first.benchmark == "corruptions":
        reading = str(first.settings.get("reading", ""))
        # What is published of CIFAR-10 says nothing of signs, and the other way round, whatever was done to them.
        fits = reading in READINGS and (reading == _OF_CIFAR) == (first.known == _CIFAR)
        rows = table["rows"].get(reading, {}) if fits else {}
        found = {name: _level(rows, name) for name in names}
    elif first.benchmark == "attacks":
        network = next((title for part, title in _NETWORKS.items() if part in first.model.lower()), _DEFAULT)
        found = {name: table["rows"][network].get(name.split(" (")[0].split(",")[0]) for name in names}
    else:
        rows = table["rows"].get(STAND_INS.get(first.known, first.known), {})
        found = {name: rows.get(STAND_INS.get(name, name)) for name in names}
    return {
        name: {column: value / 100 for column, value in zip(table["columns"], values, strict=True)}
        for name, values in found.items()
        if values is not None
    }


def _level(rows: dict[str, list[list[float]]], name: str) -> list[float] | None:
    """The figures of a corruption and level, such as `Noise 3`."""
    title, _, level = name.rpartition(" ")
    return rows[title][int(level) - 1] if title in rows and level.isdigit() else None


@cache
def _entries() -> dict[str, Any]:
    text = resources.files("gradiometer.benchmarks").joinpath("published.json").read_text(encoding="utf-8")
    entries: dict[str, Any] = json.loads(text)
    return entries
