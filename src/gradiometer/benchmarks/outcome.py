"""What a benchmark hands to a report: the records, and the scores, readings and images behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks.differences import Difference
from gradiometer.benchmarks.records import Protocol, Record

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one detector on the tested images of one challenge and on the known ones.

    Attributes:
        detector: Name of the detector.
        protocol: What it saw before the test.
        control: Whether it is a forward-only control.
        challenge: Name of the challenge.
        known: Outlier scores (N,) of known images.
        challenging: Outlier scores (M,) of the challenge.
        threshold: Score above which an image is flagged, where the detector was calibrated.
        repeats: The same two arrays for every further seed of a decision network.
        trained_on: What a decision network was trained on under the protocol `transfer`.
    """

    detector: str
    protocol: Protocol
    control: bool
    challenge: str
    known: Floats
    challenging: Floats
    threshold: float | None
    repeats: tuple[tuple[Floats, Floats], ...] = ()
    trained_on: str = ""

    @property
    def runs(self) -> tuple[tuple[Floats, Floats], ...]:
        """Scores of known images and of the challenge, for every seed."""
        return ((self.known, self.challenging), *self.repeats)

    @property
    def column(self) -> str:
        """Detector and protocol, which together name a column of a table."""
        return f"{self.detector} ({self.protocol})"


@dataclass(frozen=True, eq=False)
class Profile:
    """Gradient readings of some images, for the figure of the layers.

    Attributes:
        parameters: Names of the T parameter tensors, from the input to the output of the model.
        known: log10 squared norms (N, T) of known test images.
        challenges: log10 squared norms (M, T) of every challenge.
    """

    parameters: tuple[str, ...]
    known: Floats
    challenges: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Examples:
    """A few tested images of one set with what a calibrated detector says of them.

    Attributes:
        name: Name of the set.
        images: uint8 (E, K, H, W) with K = 1 or 3.
        p_values: Conformal p-values (E,): the share of calibration images that look at least as strange.
        flagged: Whether each image (E,) is flagged.
    """

    name: str
    images: npt.NDArray[np.uint8]
    p_values: Floats
    flagged: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything a report shows.

    Attributes:
        title: Title in plain words.
        steps: What was done, one sentence a step.
        records: The result records.
        scores: Scores behind the histograms, for a choice of detectors.
        profile: Readings by parameter tensor.
        examples: Example images, those of the known set first.
        judge: Name of the detector and protocol that judged the examples.
        false_alarm_rate: The false-alarm rate that was asked for.
        differences: Paired differences between detectors.
    """

    title: str
    steps: tuple[str, ...]
    records: tuple[Record, ...]
    scores: tuple[Scores, ...]
    profile: Profile
    examples: tuple[Examples, ...]
    judge: str
    false_alarm_rate: float
    differences: tuple[Difference, ...] = ()

    @property
    def about_predictions(self) -> bool:
        """Whether right predictions were told from wrong ones, and not known images from a challenge."""
        return any(record.selective is not None for record in self.records)
