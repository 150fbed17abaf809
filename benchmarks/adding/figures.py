"""AUROC of Guard with one more member and without, and the paired differences, kind by kind and on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gradiometer.benchmarks.metrics import Floats, percentile_interval, resampled_auroc

Areas = dict[str, tuple[float, Floats]]
"""For each kind the AUROC on all images, and on every resample."""


def areas(known: Floats, challenges: Mapping[str, Floats], *, seed: int, draws: int) -> Areas:
    """The AUROC of scores on each kind.

    Args:
        known: Scores (N,) of known images.
        challenges: Scores (M,) of each kind.
        seed: Of the bootstrap; scores of the same images see the same resamples.
        draws: Resamples.
    """
    return {name: resampled_auroc([(known, scores)], seed=seed, draws=draws) for name, scores in challenges.items()}


def difference(first: Areas, second: Areas, kinds: Iterable[str] | None = None) -> dict[str, float]:
    """Mean of the AUROC of one score minus that of another over some kinds, all when None, with its interval."""
    chosen = list(first if kinds is None else kinds)
    value = float(np.mean([first[name][0] - second[name][0] for name in chosen]))
    drawn = np.mean([first[name][1] - second[name][1] for name in chosen], axis=0)
    return asdict(percentile_interval(value, drawn))


def mean(found: Areas) -> float:
    """Mean AUROC over all kinds."""
    return float(np.mean([value for value, _ in found.values()]))


def row(name: str, base: Areas, fused: Sequence[Areas], alone: Sequence[Areas]) -> dict[str, Any]:
    """All figures of one candidate beside one fusion.

    Args:
        name: Of the candidate.
        base: The fusion without it.
        fused: The fusion with the candidate, and with its control.
        alone: The candidate by itself, and the control by itself.
    """
    gradient, control = fused
    return {
        "name": name,
        "alone": mean(alone[0]),
        "control_alone": mean(alone[1]),
        "adds": difference(gradient, base),
        "control_adds": difference(control, base),
        "beyond_control": difference(gradient, control),
        "kinds": {kind: difference(gradient, base, [kind]) for kind in base},
        "control_kinds": {kind: difference(control, base, [kind]) for kind in base},
    }


def adds(row: Mapping[str, Any]) -> bool:
    """Whether a candidate adds: above zero without its control, and above what the control adds, at 95 %."""
    return bool(row["adds"]["low"] > 0 and row["beyond_control"]["low"] > 0)
