"""What a report shows besides the figures: scores, readings by layer, and example images with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.evidence import Evidence
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.outcome import Examples, Profile, Scores
from gradiometer.benchmarks.sides import Challenge

_SHOWN = frozenset({("MSP", "known-only"), ("Guard", "known-only"), ("Purview", "matched")})
_EXAMPLES = 8
_PROFILED = 1000
"""Rows of each set behind the figure of the layers."""


def shown(scores: Sequence[Scores]) -> list[Scores]:
    """The scores that get histograms: those of MSP, of Guard and of matched Purview."""
    return [entry for entry in scores if (entry.detector, entry.protocol) in _SHOWN]


def profile(comparison: Comparison, challenges: Sequence[Challenge]) -> Profile:
    """log10 squared norms of tested images of each set, for the figure of the layers.

    Args:
        comparison: A comparison that has measured the challenges.
        challenges: The challenges.
    """
    return Profile(
        parameters=comparison.known.parameters,
        known=_logs(comparison.known.select(comparison.split.test[:_PROFILED])),
        challenges={
            challenge.name: _logs(comparison.read(challenge).select(comparison.tested(challenge)[:_PROFILED]))
            for challenge in challenges
        },
    )


def examples(comparison: Comparison, challenges: Sequence[Challenge]) -> tuple[Examples, ...]:
    """A few tested images of each set, evenly spread and not chosen, as Guard judges them.

    Args:
        comparison: A comparison that has measured the challenges.
        challenges: The challenges.

    Returns:
        Known images first, then each challenge.
    """
    sets = [(f"{comparison.settings.known} (known)", comparison.held_out, comparison.known, comparison.split.test)]
    sets += [(entry.name, entry.images, comparison.read(entry), comparison.tested(entry)) for entry in challenges]
    found = []
    for name, images, evidence, tested in sets:
        rows = tested[np.linspace(0, len(tested) - 1, min(_EXAMPLES, len(tested))).astype(np.int64)]
        p_values, flagged = comparison.judge(evidence.select(rows))
        found.append(Examples(name, images.select(rows).images.numpy(), p_values, flagged))
    return tuple(found)


def _logs(evidence: Evidence) -> Floats:
    """log10 of squared norms; an exact zero counts as the smallest positive number of its column."""
    positive = np.where(evidence.norms > 0, evidence.norms, np.inf).min(axis=0)
    floor = np.where(np.isfinite(positive), positive, 1.0)
    logs: Floats = np.log10(np.maximum(evidence.norms, floor))
    return logs
