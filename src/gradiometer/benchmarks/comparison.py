"""The engine of every table: detectors side by side on the same images, under protocols that are named."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks import protocols, records
from gradiometer.benchmarks.columns import Column, known_only
from gradiometer.benchmarks.evidence import Evidence, Progress, Reader
from gradiometer.benchmarks.metrics import Floats, Metrics, evaluate
from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.protocols import Indices, Split
from gradiometer.benchmarks.rates import conformal_interval, false_alarm_interval
from gradiometer.benchmarks.records import Protocol, RealisedRate, Record
from gradiometer.data import Images
from gradiometer.detectors import Calibration, DecisionNetwork

_FEWEST_BASES = 20
"""Base images of a challenge below which the decision network holds out rows, not base images, for its early stop."""

JUDGE = "Guard (known-only)"
"""The column whose verdicts a report shows."""


@dataclass(frozen=True)
class Settings:
    """What a comparison is called and how it draws.

    Attributes:
        benchmark: Name of the table.
        model: Specification of the model.
        known: Name of the known data.
        seed: Of splits, decision networks and bootstrap.
        draws: Bootstrap resamples behind each interval.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.
        notes: All other settings, for the records.
        detectors: Names of the known-only detectors; all when None. Guard, whose verdicts a report shows, is one.
    """

    benchmark: str
    model: str
    known: str
    seed: int = 0
    draws: int = 1000
    false_alarm_rate: float = 0.05
    neighbours: int = 10
    notes: Mapping[str, Any] = field(default_factory=dict)
    detectors: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Challenge:
    """One challenge and how it is divided.

    Attributes:
        name: Its name.
        images: Its images.
        made_from_known: Whether its base images are those of the known held-out images, as with corruptions.
    """

    name: str
    images: Images
    made_from_known: bool = False


@dataclass(frozen=True, eq=False)
class _Sides:
    """Rows of both sides, and the readings of the challenge."""

    name: str
    evidence: Evidence
    known: Split
    challenge: Split
    challenge_groups: Indices
    null: bool


class Comparison:
    """Fits the known-only detectors once and compares all detectors on one challenge after the other.

    Known-only detectors are fitted on training images and calibrated on the half of the held-out known images that is
    not tested. Matched ones see the same half and half of the challenge. All are tested on the other halves.

    Args:
        reader: Reads the model.
        settings: Names and seeds.
        fit: Known images to fit on, with labels: training images of the model.
        held_out: Known images that the model was not trained on.
        progress: Told about readings.
    """

    def __init__(
        self, reader: Reader, settings: Settings, fit: Images, held_out: Images, progress: Progress | None = None
    ) -> None:
        self.reader = reader
        self.settings = settings
        self.progress = progress
        self.held_out = held_out
        self.groups: Indices = held_out.groups.numpy()
        self.split = protocols.split(self.groups, seed=settings.seed)
        self.fitted = reader.read(fit, f"{settings.known} (fit)", progress)
        self.known = reader.read(held_out, settings.known, progress)
        self._columns = known_only(
            reader.head,
            fit,
            self.fitted,
            self.known,
            self.split.seen,
            settings.false_alarm_rate,
            settings.neighbours,
            seed=settings.seed,
            detectors=settings.detectors,
        )
        self._evidence: dict[str, Evidence] = {}

    def null(self, reencode: Callable[[Images], Images]) -> list[Record]:
        """Every detector on known images against other known images that took the path of a challenge.

        Args:
            reencode: Stores images and loads them again the way challenges are loaded.

        Returns:
            One record for each detector and protocol.

        Raises:
            InputError: If a detector tells them apart.
        """
        first, second = protocols.halves(np.arange(len(self.held_out)), self.groups, seed=self.settings.seed)
        other = reencode(self.held_out.select(second))
        here = protocols.split(self.groups[first], seed=self.settings.seed)
        sides = _Sides(
            name="re-encoded known",
            evidence=self.reader.read(other, "re-encoded known", self.progress),
            known=Split(*(first[rows] for _, rows in here.parts())),
            challenge=protocols.split(self.groups[second], seed=self.settings.seed),
            challenge_groups=self.groups[second],
            null=True,
        )
        return [record for record, _ in self._compare(sides)]

    def measure(self, challenge: Challenge) -> tuple[list[Record], list[Scores]]:
        """Every detector on one challenge.

        Args:
            challenge: The challenge.

        Returns:
            One record and the scores for each detector and protocol, in the order of the table.
        """
        groups: Indices = challenge.images.groups.numpy()
        if challenge.made_from_known:
            parts = protocols.follow(self.split, self.groups, groups)
        else:
            parts = protocols.split(groups, seed=self.settings.seed)
            groups = groups - groups.min() + self.groups.max() + 1
        results = self._compare(_Sides(challenge.name, self.read(challenge), self.split, parts, groups, null=False))
        return [record for record, _ in results], [scores for _, scores in results]

    def read(self, challenge: Challenge) -> Evidence:
        """The readings of a challenge; read once however often they are asked for."""
        if challenge.name not in self._evidence:
            self._evidence[challenge.name] = self.reader.read(challenge.images, challenge.name, self.progress)
        return self._evidence[challenge.name]

    def tested(self, challenge: Challenge) -> Indices:
        """Rows of a challenge that figures are computed on."""
        groups = challenge.images.groups.numpy()
        if challenge.made_from_known:
            return protocols.follow(self.split, self.groups, groups).test
        return protocols.split(groups, seed=self.settings.seed).test

    def judge(self, evidence: Evidence) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """What Guard says of some images: p-values (N,), and whether each is flagged."""
        column = next(entry for entry in self._columns if entry.detector == "Guard")
        scores = column.score(evidence)
        return column.calibration.p_values(scores), column.calibration.flagged(scores)

    def _compare(self, sides: _Sides) -> list[tuple[Record, Scores]]:
        return [self._known_only_result(column, sides) for column in self._columns] + [
            self._matched_result(name, control, pick, sides)
            for name, control, pick in (
                ("Purview", False, lambda evidence: evidence.statistics),
                ("Control", True, lambda evidence: evidence.activations),
            )
        ]

    def _known_only_result(self, column: Column, sides: _Sides) -> tuple[Record, Scores]:
        started = time.perf_counter()
        challenging = column.score(sides.evidence.select(sides.challenge.test))
        known = column.known[sides.known.test]
        seconds = column.seconds + time.perf_counter() - started
        alarms = None if sides.null else self._rate(column.calibration, known)
        scores = Scores(
            column.detector,
            "known-only",
            column.control,
            sides.name,
            known,
            challenging,
            column.calibration.threshold,
        )
        counts = {"fit": len(self.fitted), "calibration": len(column.calibration)}
        return self._record(sides, scores, counts, alarms, seconds), scores

    def _matched_result(
        self, name: str, control: bool, pick: Callable[[Evidence], Floats], sides: _Sides
    ) -> tuple[Record, Scores]:
        """Train a decision network on the seen halves, test it on the others.

        A quarter of the known images, half of the tested ones, sets the threshold; the rate is taken on the rest.
        """
        started = time.perf_counter()
        known, challenging = pick(self.known), pick(sides.evidence)
        known_seen, challenge_seen = sides.known.seen, sides.challenge.seen
        bases = sides.challenge_groups[challenge_seen]
        if self.progress is not None:
            self.progress(f"fitting {name} to {sides.name}", 0, 1)
        network = DecisionNetwork(seed=self.settings.seed).fit(
            known[known_seen],
            challenging[challenge_seen],
            self.groups[known_seen],
            bases if len(np.unique(bases)) >= _FEWEST_BASES else None,
        )
        tested = network.score(known[sides.known.test])
        calibration, alarms = None, None
        if not sides.null:
            first, second = protocols.halves(
                np.arange(len(tested)), self.groups[sides.known.test], seed=self.settings.seed
            )
            calibration = Calibration(tested[first], self.settings.false_alarm_rate)
            alarms = self._rate(calibration, tested[second])
        scores = Scores(
            name,
            "matched",
            control,
            sides.name,
            tested,
            network.score(challenging[sides.challenge.test]),
            None if calibration is None else calibration.threshold,
        )
        seconds = time.perf_counter() - started
        if self.progress is not None:
            self.progress(f"fitting {name} to {sides.name}", 1, 1)
        counts = {
            "seen_known": len(known_seen),
            "seen_challenge": len(challenge_seen),
            "calibration": 0 if calibration is None else len(calibration),
        }
        return self._record(sides, scores, counts, alarms, seconds), scores

    def _rate(self, calibration: Calibration, unseen: Floats) -> RealisedRate:
        rate = self.settings.false_alarm_rate
        return RealisedRate(
            asked=rate,
            flagged=int(calibration.flagged(unseen).sum()),
            count=len(unseen),
            calibration=len(calibration),
            expected=false_alarm_interval(rate, len(unseen)),
            expected_with_calibration=conformal_interval(rate, len(calibration), len(unseen)),
        )

    def _metrics(self, sides: _Sides, scores: Scores) -> tuple[Metrics, float]:
        """Figures and the confidence of their intervals; a null test that fails stops everything."""
        settings = self.settings
        if sides.null:
            what = f"{scores.detector} ({scores.protocol})"
            metrics = protocols.null_test(
                scores.known, scores.challenging, what=what, seed=settings.seed, draws=settings.draws
            )
            return metrics, protocols.NULL_CONFIDENCE
        return evaluate(scores.known, scores.challenging, seed=settings.seed, draws=settings.draws), 0.95

    def _record(
        self, sides: _Sides, scores: Scores, counts: dict[str, int], alarms: RealisedRate | None, seconds: float
    ) -> Record:
        settings = self.settings
        metrics, confidence = self._metrics(sides, scores)
        protocol: Protocol = scores.protocol
        bases = np.unique(sides.challenge_groups[sides.challenge.test])
        return Record(
            benchmark=settings.benchmark,
            kind="null" if sides.null else "detection",
            model=settings.model,
            known=settings.known,
            challenge=sides.name,
            detector=scores.detector,
            protocol=protocol,
            control=scores.control,
            metrics=metrics,
            counts={**counts, "tested_base_images": len(bases)},
            seed=settings.seed,
            draws=settings.draws,
            confidence=confidence,
            weights_sha256=self.reader.weights_sha256,
            data_sha256={
                "fit": self.fitted.images_sha256,
                "known": self.known.images_sha256,
                "challenge": sides.evidence.images_sha256,
            },
            versions=records.versions(),
            environment=records.environment(),
            seconds=seconds,
            reading_seconds=sides.evidence.seconds,
            false_alarms=alarms,
            settings={
                "false_alarm_rate": settings.false_alarm_rate,
                "neighbours": settings.neighbours,
                "objective": repr(self.reader.objective),
                **settings.notes,
            },
        )
