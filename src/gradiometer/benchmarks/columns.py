"""The known-only detectors of a table, fitted and calibrated on shared readings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gradiometer.benchmarks.evidence import Evidence
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.protocols import Indices
from gradiometer.data import Images
from gradiometer.detectors import MSP, Calibration, Detector, Energy, NeighbourDensity, NormalizedMahalanobis

Score = Callable[[Evidence], Floats]


@dataclass(frozen=True, eq=False)
class Column:
    """A known-only detector with its scores of all held-out known images.

    Attributes:
        detector: Its name.
        control: Whether it reads forward-only statistics, as the control of a gradient detector.
        score: Maps readings of N images to outlier scores (N,).
        known: Scores of the held-out known images.
        calibration: From those of them that are not tested.
        seconds: Time for fitting, and for scoring the held-out images.
    """

    detector: str
    control: bool
    score: Score
    known: Floats
    calibration: Calibration
    seconds: float


def known_only(
    head: nn.Linear,
    fit: Images,
    fitted: Evidence,
    held_out: Evidence,
    calibrate: Indices,
    false_alarm_rate: float,
    neighbours: int,
) -> list[Column]:
    """Fit all known-only detectors.

    Detectors on logits and features run on the last layer as if it were the model, with the features as its inputs;
    Purview and its control score the statistics that they would read themselves.

    Args:
        head: The last linear layer of the model.
        fit: Known images to fit on, with labels.
        fitted: Their readings.
        held_out: Readings of known images that the model was not trained on.
        calibrate: Which of them set the thresholds.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.

    Returns:
        The columns in the order of the table.
    """
    features = torch.from_numpy(fitted.features)
    fits: tuple[tuple[str, bool, Callable[[], Score]], ...] = (
        ("MSP", False, lambda: _on_features(MSP(head))),
        ("Energy", False, lambda: _on_features(Energy(head))),
        (
            "Normalised Mahalanobis",
            False,
            lambda: _on_features(NormalizedMahalanobis(head).fit((features, fit.labels))),
        ),
        ("Purview", False, lambda: _on_all(NeighbourDensity(neighbours).fit(fitted.statistics))),
        ("Control", True, lambda: _on_activations(NeighbourDensity(neighbours).fit(fitted.activations))),
    )
    columns = []
    for name, control, fitting in fits:
        started = time.perf_counter()
        score = fitting()
        known = score(held_out)
        calibration = Calibration(known[calibrate], false_alarm_rate)
        columns.append(Column(name, control, score, known, calibration, time.perf_counter() - started))
    return columns


def _on_features(detector: Detector) -> Score:
    """Scores of a detector that runs on the last layer."""
    return lambda evidence: np.asarray(detector.predict(torch.from_numpy(evidence.features)).numpy(), dtype=np.float64)


def _on_all(density: NeighbourDensity) -> Score:
    return lambda evidence: density.score(evidence.statistics)


def _on_activations(density: NeighbourDensity) -> Score:
    return lambda evidence: density.score(evidence.activations)
