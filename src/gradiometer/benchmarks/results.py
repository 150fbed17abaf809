"""The record of one result."""

from __future__ import annotations

import numpy as np

from gradiometer.benchmarks import protocols, selective
from gradiometer.benchmarks.evidence import Evidence, Reader
from gradiometer.benchmarks.metrics import evaluate_all
from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.protocols import Indices
from gradiometer.benchmarks.records import RealisedRate, Record, environment, versions
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import Sides

_CONFIDENCE = 0.95


def make_record(
    settings: Settings,
    reader: Reader,
    fitted: Evidence,
    sides: Sides,
    scores: Scores,
    counts: dict[str, int],
    alarms: RealisedRate | None,
    seconds: float,
) -> Record:
    """Evaluate scores and write down everything that is needed to judge and to repeat the result.

    Args:
        settings: Names and seeds.
        reader: What read the model.
        fitted: Readings of the images that known-only detectors are fitted on.
        sides: What was compared.
        scores: Scores of the tested images.
        counts: Numbers of images by use.
        alarms: The realised false-alarm rate, where the detector was calibrated.
        seconds: Time for fitting and scoring.

    Raises:
        InputError: If it is a null test and fails.
    """
    confidence = _CONFIDENCE
    if sides.null:
        confidence = protocols.NULL_CONFIDENCE
        what = f"{scores.column} on {sides.name}"
        metrics = protocols.null_test(
            scores.known, scores.challenging, what=what, seed=settings.seed, draws=settings.draws
        )
    else:
        metrics = evaluate_all(scores.runs, seed=settings.seed, draws=settings.draws, confidence=confidence)
    each = [evaluate_all([run], draws=0).auroc.value for run in scores.runs] if len(scores.runs) > 1 else []
    figures = None
    if sides.mistakes:
        groups = tested_groups(sides)
        figures = selective.evaluate(
            scores.runs, groups, seed=settings.seed, draws=settings.draws, confidence=confidence
        )
    bases = np.unique(sides.challenge.groups[sides.challenge.split.test])
    return Record(
        benchmark=settings.benchmark,
        kind="null" if sides.null else "handling" if sides.handling else "detection",
        model=settings.model,
        known=settings.known,
        challenge=sides.name,
        detector=scores.detector,
        protocol=scores.protocol,
        control=scores.control,
        metrics=metrics,
        counts={**counts, "tested_base_images": len(bases)},
        seed=settings.seed,
        draws=settings.draws,
        confidence=confidence,
        weights_sha256=reader.weights_sha256,
        data_sha256={
            "fit": fitted.images_sha256,
            "known": sides.known.evidence.images_sha256,
            "challenge": sides.challenge.evidence.images_sha256,
        },
        versions=versions(),
        environment=environment(),
        seconds=seconds,
        reading_seconds=sides.challenge.evidence.seconds,
        false_alarms=alarms,
        settings={
            "false_alarm_rate": settings.false_alarm_rate,
            "neighbours": settings.neighbours,
            "objective": repr(reader.objective),
            **settings.notes,
            **dict(sides.facts),
        },
        trained_on=scores.trained_on,
        by_seed={str(seed): value for seed, value in zip(settings.seeds, each, strict=False)},
        selective=figures,
    )


def tested_groups(sides: Sides) -> tuple[Indices, Indices]:
    """Base images of the tested rows of both sides."""
    return sides.known.groups[sides.known.split.test], sides.challenge.groups[sides.challenge.split.test]
