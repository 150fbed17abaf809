"""The five figures from how often each image was drawn: the inner part of the bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 19
"""Cells (draws times images) of one bootstrap step: small enough to stay in the processor's cache."""


def check_draws(draws: int) -> None:
    """Refuse so few resamples that an interval has no width, as if a figure were certain.

    Args:
        draws: Bootstrap resamples behind each interval.

    Raises:
        InputError: If there are fewer than two.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}, and no interval comes of fewer than 2 resamples; give 1000")


def draw_counts(known: int, challenge: int, *, seed: int, draws: int) -> Iterator[npt.NDArray[np.int32]]:
    """How often each image was drawn, (draws of the chunk, known + challenge), known images first.

    Every draw has its own seed, so that the resamples do not depend on the size of a chunk.
    """
    rows = max(1, _CHUNK // (known + challenge))
    seeds = np.random.SeedSequence(seed).spawn(draws)
    for start in range(0, draws, rows):
        chunk = seeds[start : start + rows]
        counts = np.empty((len(chunk), known + challenge), dtype=np.int32)
        for row, child in enumerate(chunk):
            generator = np.random.default_rng(child)
            counts[row, :known] = np.bincount(generator.integers(0, known, known), minlength=known)
            counts[row, known:] = np.bincount(generator.integers(0, challenge, challenge), minlength=challenge)
        yield counts


def count_figures(known_counts: npt.NDArray[Any], challenge_counts: npt.NDArray[Any]) -> dict[str, Floats]:
    """The five figures from the number of known and challenge images at every score, (D, S), scores ascending."""
    accepted_known = np.cumsum(known_counts, axis=1, dtype=np.int64)
    accepted_challenge = np.cumsum(challenge_counts, axis=1, dtype=np.int64)
    known, challenge = accepted_known[:, -1:], accepted_challenge[:, -1:]
    rejected_known = known - accepted_known + known_counts
    rejected_challenge = challenge - accepted_challenge + challenge_counts
    pairs = (known_counts * (rejected_challenge - 0.5 * challenge_counts)).sum(1)
    # At a score nobody has in this draw both counts are zero: the maximum keeps 0 / 0 out and changes nothing else.
    precision_in = accepted_known / np.maximum(accepted_known + accepted_challenge, 1)
    precision_out = rejected_challenge / np.maximum(rejected_known + rejected_challenge, 1)
    balance = accepted_known / known - accepted_challenge / challenge
    # Exact integers, so that TPR 0.90 and 1.00 are equally far from 0.95; the -1 prefers the larger TPR of such two,
    # and argmin takes the first, that is the known score itself.
    distance = 2 * np.abs(100 * accepted_known - 95 * known) - (100 * accepted_known >= 95 * known)
    chosen = np.argmin(distance, axis=1)[:, None]
    return {
        "auroc": pairs / (known * challenge)[:, 0],
        "aupr_in": (known_counts * precision_in).sum(1) / known[:, 0],
        "aupr_out": (challenge_counts * precision_out).sum(1) / challenge[:, 0],
        "detection_accuracy": 0.5 + 0.5 * np.maximum(balance.max(1), 0.0),
        "tnr_at_95": 1 - (np.take_along_axis(accepted_challenge, chosen, 1) / challenge)[:, 0],
    }
