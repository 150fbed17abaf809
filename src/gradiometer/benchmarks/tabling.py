"""The run of a table on a trained classifier, from challenges to records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradiometer.benchmarks import begun, differences, exhibits, records
from gradiometer.benchmarks.cells import Cells
from gradiometer.benchmarks.columns import readers
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.differences import JUDGE, Difference
from gradiometer.benchmarks.evidence import INPUT_STEP, PSEUDO_LABEL, Direct, Progress, Reader
from gradiometer.benchmarks.loading import Kit, TableSettings, reencoded
from gradiometer.benchmarks.outcome import Outcome, Scores
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.results import tested_groups
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import FAMILY, Challenge
from gradiometer.benchmarks.transfer import DETECTORS, transfer
from gradiometer.challenges import synthetic
from gradiometer.data.hashing import pixels_hash
from gradiometer.detectors import ODIN, Detector, Mahalanobis
from gradiometer.gradients import Gradiometer, PseudoLabel

_LAYERS, _EPSILON = 5, 0.0014
"""Layers of Mahalanobis P+FE, as many as published for a ResNet, and its input step, one of the published grid."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is particular to one table.

    Attributes:
        name: Of the benchmark.
        title: Title of the page, without a question mark about which model.
        challenges: The challenges, one at a time so that those before are finished when one fails.
        transferred: Those among them that detectors are trained on for `transfer`, by name; all when None.
        taught: Names of the matched detectors that are trained for `transfer`.
        synthetic: Whether they are trained on synthetic challenges too.
        detectors: Names of the known-only detectors; all when there are none.
        matched: Names of the matched detectors; all when None.
        input_step: Whether distances after an input step are read, at the price of fifteen passes.
        pseudo_label: Whether gradients under the predicted label are read too, at the price of one more reading.
        against: A column that all others are compared with in paired differences, or empty.
        notes: Further settings, for the records.
        said: Further steps, for the page.
    """

    name: str
    title: str
    challenges: Sequence[Challenge]
    transferred: tuple[str, ...] | None = None
    taught: tuple[str, ...] = DETECTORS
    synthetic: bool = True
    detectors: tuple[str, ...] = ()
    matched: tuple[str, ...] | None = None
    input_step: bool = False
    pseudo_label: bool = False
    against: str = ""
    notes: tuple[tuple[str, object], ...] = ()
    said: tuple[str, ...] = ()


def compare(settings: TableSettings, kit: Kit, table: Contents, progress: Progress | None = None) -> Comparison:
    """Read the known images and fit the known-only detectors of a table."""
    direct: dict[str, Detector | Direct] = {"ODIN": ODIN(kit.model, batch_size=settings.batch_size)}
    if table.input_step:
        stepped = Mahalanobis(kit.model, layers=_LAYERS, epsilon=_EPSILON, batch_size=settings.batch_size)
        direct[INPUT_STEP] = stepped.fit(kit.fit).distances
    if table.pseudo_label:
        meter = Gradiometer(kit.model, PseudoLabel(), memory=settings.memory)
        direct[PSEUDO_LABEL] = lambda images: meter.squared_norms(images).values
    asked = {
        name: make(kit.model, batch_size=settings.batch_size)
        for name, make in readers(settings.detectors or table.detectors).items()
    }
    learnt = [detector for detector in asked.values() if detector.requires_fit]
    for detector in learnt:
        detector.fit(kit.fit)
    direct |= asked
    fitted = table.input_step or learnt
    reader = Reader(
        kit.model,
        batch_size=settings.batch_size,
        memory=settings.memory,
        cache=settings.out / "readings" if settings.keep_readings else None,
        direct=direct,
        basis=f" {pixels_hash(kit.fit.images)} {_EPSILON}" if fitted else "",
    )
    notes = {"size": kit.load.size, "channels": kit.load.channels, "fit_images": len(kit.fit), "limit": settings.limit}
    if settings.fit_unseen:
        notes["fit_unseen"] = True
    return Comparison(
        reader,
        Settings(
            benchmark=table.name,
            model=settings.model,
            known=settings.known,
            seed=settings.seed,
            seeds=settings.seeds,
            draws=settings.draws,
            false_alarm_rate=settings.false_alarm_rate,
            neighbours=settings.neighbours,
            notes={**notes, **dict(table.notes)},
            detectors=settings.detectors or table.detectors,
            matched=table.matched if settings.learns else (),
        ),
        kit.fit,
        kit.held_out,
        progress,
        Cells(settings.out / "cells" if settings.keep_readings else None),
    )


def fill(
    settings: TableSettings,
    kit: Kit,
    table: Contents,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Fill a table: the null test, which stops everything when it fails, then one challenge after the other.

    Records go to `out/records.jsonl`, which is begun anew (see `begun`), as soon as a challenge is finished; paired
    differences go to `out/differences.jsonl` at the end.

    Args:
        settings: What to run.
        kit: Model and known images.
        table: The challenges and what they are called.
        progress: Told about readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If the null test fails.
    """
    comparison = compare(settings, kit, table, progress)
    path = begun.begin(settings)
    done, scores = comparison.null(reencoded), list[Scores]()
    for record in done:
        records.append(path, record)

    def keep(results: list[Record], found: list[Scores]) -> None:
        for record in results:
            records.append(path, record)
        done.extend(results)
        scores.extend(found)
        if finished is not None:
            finished(results)

    for challenge in table.challenges:
        keep(*comparison.measure(challenge))
    handled = {challenge.name for challenge in table.challenges if challenge.handling}
    if "transfer" in settings.protocols:
        chosen = [c for c in table.challenges if table.transferred is None or c.name in table.transferred]
        if len(chosen) > 1:
            sides = [comparison.sides(challenge) for challenge in chosen]
            made = None
            if table.synthetic:
                images = synthetic(kit.held_out.select(comparison.split.seen), settings.seed)
                made = comparison.sides(Challenge("synthetic", images, True))
            for results in transfer(comparison, sides, made, table.taught):
                keep([record for record, _ in results], [entry for _, entry in results])
    families = {challenge.name: str(dict(challenge.facts).get(FAMILY, "")) for challenge in table.challenges}
    families = {name: family for name, family in families.items() if family}
    found = _differences(comparison, table, [entry for entry in scores if entry.challenge not in handled], families)
    differences.write(settings.out / "differences.jsonl", found)
    return Outcome(
        title=table.title,
        steps=(*_steps(settings, comparison, table.challenges), *table.said),
        records=tuple(done),
        scores=tuple(exhibits.shown(scores)),
        profile=exhibits.profile(comparison, table.challenges),
        examples=exhibits.examples(comparison, table.challenges),
        judge=JUDGE,
        false_alarm_rate=settings.false_alarm_rate,
        differences=tuple(found),
    )


def _differences(
    comparison: Comparison, table: Contents, scores: Sequence[Scores], families: Mapping[str, str]
) -> list[Difference]:
    judged = [challenge for challenge in table.challenges if challenge.wrong is not None]
    settings = comparison.settings
    about = {"benchmark": settings.benchmark, "model": settings.model, "known": settings.known}
    return differences.differences(
        scores,
        {**about, "weights_sha256": comparison.reader.weights_sha256},
        families=families,
        groups={challenge.name: tested_groups(comparison.sides(challenge)) for challenge in judged},
        against=table.against,
        seed=settings.seed,
        draws=settings.draws,
    )


def _steps(settings: TableSettings, comparison: Comparison, challenges: Sequence[Challenge]) -> tuple[str, ...]:
    split, known = comparison.split, settings.known
    count, channels, height, width = comparison.held_out.images.shape
    names = ", ".join(challenge.name for challenge in challenges)
    source = "other test" if settings.fit_unseen else "training"
    matched = (
        f"Trained matched detectors for each challenge on 40 % of it and {len(split.train)} test images of {known}.",
        "Stopped decision networks early on a further 10 % of both.",
    )
    tested = (
        f"Tested all of them on the other {len(split.test)} test images of {known}.",
        f"Tested them on the other half of each of {len(challenges)} challenges too: {names}.",
    )
    if any(challenge.wrong is not None for challenge in challenges):
        matched = (
            f"Trained matched detectors in each row on which of {len(split.train)} of these predictions are wrong.",
            f"Stopped decision networks early on {len(split.validate)} others of them.",
        )
        tested = (
            f"Told right predictions about the other {len(split.test)} test images of {known} from wrong ones.",
            f"Did so in each of {len(challenges)} rows, in their true proportion: {names}.",
        )
    return (
        f"Loaded the classifier {Path(settings.model).name}.",
        f"Loaded all images in the same way: {height} x {width} pixels, {'colour' if channels == 3 else 'grey'}.",
        f"Fitted the known-only detectors on {len(comparison.fitted)} {source} images of {known}.",
        f"Calibrated them on {len(split.seen)} of its {count} test images.",
        *(matched if settings.learns else ()),
        *tested,
        "Checked with known images, stored and loaded again like a challenge, that no detector reads the handling.",
    )
