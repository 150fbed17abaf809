"""The engine of every table: detectors side by side on the same images, under protocols that are named."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks import protocols
from gradiometer.benchmarks.cells import Cells, Results
from gradiometer.benchmarks.columns import Column, Fit, Score, known_only
from gradiometer.benchmarks.evidence import Evidence, Progress, Reader
from gradiometer.benchmarks.matched import Learner, Lesson, learners
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.protocols import Indices, Split
from gradiometer.benchmarks.rates import realised
from gradiometer.benchmarks.records import RealisedRate, Record, versions
from gradiometer.benchmarks.results import make_record
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import Challenge, Side, Sides
from gradiometer.data import Images
from gradiometer.data.hashing import pixels_hash
from gradiometer.detectors import Calibration

REENCODED = "re-encoded known"
"""Name of the challenge of the null test."""


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
        cells: Where finished challenges are kept.
    """

    def __init__(
        self,
        reader: Reader,
        settings: Settings,
        fit: Images,
        held_out: Images,
        progress: Progress | None = None,
        cells: Cells | None = None,
    ) -> None:
        self.reader = reader
        self.settings = settings
        self.progress = progress
        self.held_out = held_out
        self.groups: Indices = held_out.groups.numpy()
        self.split = protocols.split(self.groups, seed=settings.seed)
        self.fitted = reader.read(fit, f"{settings.known} (fit)", progress)
        self.known = reader.read(held_out, settings.known, progress)
        self.basis = Fit(reader.head, fit.labels, fit.groups.numpy(), self.fitted, settings.neighbours, settings.seed)
        self.columns = known_only(
            self.basis, self.known, self.split.seen, settings.false_alarm_rate, detectors=settings.detectors
        )
        self.learners = learners(settings.matched, self.known)
        self._cells = Cells(None) if cells is None else cells
        self._evidence: dict[str, Evidence] = {}
        self._learnt: dict[tuple[str, str, int], Score] = {}

    def null(
        self, reencode: Callable[[Images], Images], images: Images | None = None, name: str = REENCODED
    ) -> list[Record]:
        """Every detector on images against other images of the same set that took the path of a challenge.

        Args:
            reencode: Stores images and loads them again the way challenges are loaded.
            images: The set; the known held-out images when None.
            name: What the challenge is called.

        Returns:
            One record for each detector and protocol.

        Raises:
            InputError: If a detector tells them apart.
        """
        held_out = images is None
        images = self.held_out if images is None else images
        groups: Indices = images.groups.numpy()
        first, second = protocols.halves(np.arange(len(images)), groups, seed=self.settings.seed)
        other = reencode(images.select(second))
        here = protocols.split(groups[first], seed=self.settings.seed)
        if held_out:
            known = Side(self.known, self.groups, Split(*(first[rows] for _, rows in here.parts())))
        else:
            # The readings of the first half alone: what a challenge is read for is not read here.
            evidence = self.reader.read(images.select(first), f"{name}, first half", self.progress)
            known = Side(evidence, groups[first], here)
        there = Side(
            self.reader.read(other, name, self.progress),
            groups[second],
            protocols.split(groups[second], seed=self.settings.seed),
        )
        return [record for record, _ in self._compare(Sides(name, known, there, held_out, null=True))]

    def measure(self, challenge: Challenge) -> tuple[list[Record], list[Scores]]:
        """Every detector on one challenge.

        Args:
            challenge: The challenge.

        Returns:
            One record and the scores for each detector and protocol, in the order of the table.
        """
        results = self._compare(self.sides(challenge))
        return [record for record, _ in results], [scores for _, scores in results]

    def sides(self, challenge: Challenge) -> Sides:
        """Readings and division of a challenge and of what stands beside it."""
        if challenge.wrong is not None:
            return self._predictions(challenge, challenge.wrong)
        groups: Indices = challenge.images.groups.numpy()
        if challenge.made_from_known:
            parts = protocols.follow(self.split, self.groups, groups)
        else:
            parts = protocols.split(groups, seed=self.settings.seed)
            groups = groups - groups.min() + self.groups.max() + 1
        known = Side(self.known, self.groups, self.split)
        if challenge.known is not None:
            beside: Indices = challenge.known.groups.numpy()
            evidence = self._read(challenge.known, f"{challenge.name}, known")
            known = Side(evidence, beside, protocols.follow(self.split, self.groups, beside))
        there = Side(self.read(challenge), groups, parts)
        return Sides(
            challenge.name,
            known,
            there,
            challenge.known is None,
            facts=challenge.facts,
            handling=challenge.handling,
        )

    def read(self, challenge: Challenge) -> Evidence:
        """The readings of a challenge; read once however often they are asked for."""
        return self._read(challenge.images, challenge.name)

    def tested(self, challenge: Challenge) -> Indices:
        """Rows of a challenge that figures are computed on."""
        groups = challenge.images.groups.numpy()
        if challenge.made_from_known:
            rows = protocols.follow(self.split, self.groups, groups).test
            return rows if challenge.wrong is None else rows[challenge.wrong[rows]]
        return protocols.split(groups, seed=self.settings.seed).test

    def judge(self, evidence: Evidence) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """What Guard says of some images: p-values (N,), and whether each is flagged."""
        column = next(entry for entry in self.columns if entry.detector == "Guard")
        scores = column.score(evidence)
        return column.calibration.p_values(scores), column.calibration.flagged(scores)

    def learn(self, learner: Learner, sides: Sides, seed: int) -> Score:
        """A matched detector, trained on the seen halves of both sides once, however often it is asked for."""
        key = (learner.name, sides.name, seed)
        if key not in self._learnt:
            if self.progress is not None:
                self.progress(f"fitting {learner.name} to {sides.name}", 0, 1)
            self._learnt[key] = learner.learn(self.basis, Lesson.of(sides, seed))
            if self.progress is not None:
                self.progress(f"fitting {learner.name} to {sides.name}", 1, 1)
        return self._learnt[key]

    def seeds(self, learner: Learner) -> tuple[int, ...]:
        """The seeds of a matched detector: one is enough where another makes no difference."""
        return self.settings.seeds if learner.seeded else self.settings.seeds[:1]

    def cached(self, key: tuple[str, ...], make: Callable[[], Results]) -> Results:
        """Results from the disk, or made and kept there.

        Args:
            key: What they depend on besides the settings, the model and the known images; its head names the file.
            make: Makes them.
        """
        settings = self.settings
        full = (
            *key,
            *(repr(getattr(settings, name)) for name in ("seed", "seeds", "draws", "false_alarm_rate", "neighbours")),
            *(column.detector for column in self.columns),
            *(learner.name for learner in self.learners),
            settings.benchmark,
            settings.known,
            settings.model,
            repr(sorted(settings.notes.items())),
            self.reader.weights_sha256,
            self.reader.direct_key,
            self.fitted.images_sha256,
            self.known.images_sha256,
            versions()["gradiometer"],
        )
        found = self._cells.find(full)
        if found is None:
            found = make()
            self._cells.keep(full, found)
        return found

    def record(
        self, sides: Sides, scores: Scores, counts: dict[str, int], alarms: RealisedRate | None, seconds: float
    ) -> Record:
        """The record of a result.

        Raises:
            InputError: If it is a null test and fails.
        """
        return make_record(self.settings, self.reader, self.fitted, sides, scores, counts, alarms, seconds)

    def _predictions(self, challenge: Challenge, wrong: npt.NDArray[np.bool_]) -> Sides:
        """Right and wrong predictions about images that are read once; each goes where its base image is."""
        evidence, sides = self.read(challenge), list[Side]()
        for rows in (np.flatnonzero(~wrong), np.flatnonzero(wrong)):
            images = challenge.images.select(rows)
            groups: Indices = images.groups.numpy()
            parts = protocols.follow(self.split, self.groups, groups)
            digest = pixels_hash(images.images)
            sides.append(Side(replace(evidence.select(rows), images_sha256=digest), groups, parts))
        right, challenging = sides
        return Sides(challenge.name, right, challenging, held_out=False, facts=challenge.facts, mistakes=True)

    def _read(self, images: Images, name: str) -> Evidence:
        if images is self.held_out:
            return self.known
        if name not in self._evidence:
            self._evidence[name] = self.reader.read(images, name, self.progress)
        return self._evidence[name]

    def _compare(self, sides: Sides) -> Results:
        def make() -> Results:
            return [self._known_only_result(column, sides) for column in self.columns] + [
                self._matched_result(learner, sides) for learner in self.learners
            ]

        return self.cached((sides.name, "null" if sides.null else "", sides.known.digest, sides.challenge.digest), make)

    def _known_only_result(self, column: Column, sides: Sides) -> tuple[Record, Scores]:
        started = time.perf_counter()
        challenging = column.score(sides.challenge.tested)
        known = column.known[sides.known.split.test] if sides.held_out else column.score(sides.known.tested)
        seconds = column.seconds + time.perf_counter() - started
        alarms = None
        if sides.held_out and not sides.null:
            alarms = realised(column.calibration, known, self.settings.false_alarm_rate)
        name, threshold = column.detector, column.calibration.threshold
        scores = Scores(name, "known-only", column.control, sides.name, known, challenging, threshold)
        counts = {"fit": len(self.fitted), "calibration": len(column.calibration)}
        return self.record(sides, scores, counts, alarms, seconds), scores

    def _matched_result(self, learner: Learner, sides: Sides) -> tuple[Record, Scores]:
        """Train a detector on the seen halves, test it on the others.

        A quarter of the known images, half of the tested ones, sets the threshold; the rate is taken on the rest.
        """
        started = time.perf_counter()
        made = [self.learn(learner, sides, seed) for seed in self.seeds(learner)[: 1 if sides.null else None]]
        runs = [(score(sides.known.tested), score(sides.challenge.tested)) for score in made]
        tested, challenging = runs[0]
        calibration, alarms = None, None
        if sides.held_out and not sides.null:
            rows = sides.known.groups[sides.known.split.test]
            first, second = protocols.halves(np.arange(len(tested)), rows, seed=self.settings.seed)
            calibration = Calibration(tested[first], self.settings.false_alarm_rate)
            alarms = realised(calibration, tested[second], self.settings.false_alarm_rate)
        threshold = None if calibration is None else calibration.threshold
        scores = Scores(
            learner.name, "matched", learner.control, sides.name, tested, challenging, threshold, tuple(runs[1:])
        )
        counts = {
            "seen_known": len(sides.known.split.seen),
            "seen_challenge": len(sides.challenge.split.seen),
            "calibration": 0 if calibration is None else len(calibration),
        }
        return self.record(sides, scores, counts, alarms, time.perf_counter() - started), scores
