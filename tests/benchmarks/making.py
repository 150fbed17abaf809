"""Records with made-up scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradiometer.benchmarks.metrics import evaluate
from gradiometer.benchmarks.rates import conformal_interval, false_alarm_interval
from gradiometer.benchmarks.records import RealisedRate, Record


def make_record(**changes: Any) -> Record:
    """A record of 40 known images and 30 of a challenge, of which single entries can be changed."""
    generator = np.random.default_rng(0)
    rate = RealisedRate(0.05, 22, 400, 400, false_alarm_interval(0.05, 400), conformal_interval(0.05, 400, 400))
    entries: dict[str, Any] = {
        "benchmark": "ood",
        "kind": "detection",
        "model": "net",
        "known": "cifar10",
        "challenge": "mnist",
        "detector": "Purview",
        "protocol": "known-only",
        "control": False,
        "metrics": evaluate(generator.normal(size=40), generator.normal(loc=1, size=30), draws=50),
        "counts": {"fit": 100},
        "seed": 0,
        "draws": 50,
        "confidence": 0.95,
        "weights_sha256": "ab" * 32,
        "data_sha256": {"known": "cd" * 32},
        "versions": {"python": "3.11"},
        "environment": {"cores": 2},
        "seconds": 1.5,
        "false_alarms": rate,
        "settings": {"limit": None},
    }
    return Record(**{**entries, **changes})
