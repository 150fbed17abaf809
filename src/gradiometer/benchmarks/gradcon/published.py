"""The published table of GradCon: figures of others, for one class of CIFAR-10 normal after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Published:
    """The published table.

    Attributes:
        source: Where it is from.
        epochs: Passes over the training images.
        rows: AUROC of each class, by name of the network and of the score.
    """

    source: str
    epochs: int
    rows: dict[tuple[str, str], dict[str, float]]


@cache
def published() -> Published:
    """The published figures for CIFAR-10, which are not ours."""
    text = resources.files("gradiometer.benchmarks.gradcon").joinpath("published.json").read_text(encoding="utf-8")
    entries: dict[str, Any] = json.loads(text)
    rows = {
        (row["model"], row["score"]): dict(zip(entries["classes"], row["auroc"], strict=True))
        for row in entries["rows"]
    }
    return Published(entries["source"], entries["epochs"], rows)
