"""Contrastive pre-training with severity labels against SimCLR and random weights, read by linear probes.

All of it at the same budget: the same photographs, encoder, views, batches and epochs. No grade is used in
pre-training; severity labels come from an auto-encoder of photographs of grade 0, which is all that it is told.

The auto-encoder sees photographs of `local` contrast. Encoders see the same, and in a second round photographs as they
come: there brightness and colour give most of the grade away, and an encoder with random weights passes them on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from gradiometer import data
from gradiometer.anomaly import GradCon
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks import probes
from gradiometer.benchmarks.gradcon.cases import trained
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.severity import retina
from gradiometer.benchmarks.severity.encoders import encoder_of
from gradiometer.benchmarks.severity.settings import SeverityBench
from gradiometer.data import Cohort
from gradiometer.data.hashing import pixels_hash
from gradiometer.models import weights_hash
from gradiometer.severity import Preparation, severity_labels
from gradiometer.severity.contrastive import (
    Augmentation,
    ContrastiveRecipe,
    ProbeResult,
    probe,
    settings_for,
)
from gradiometer.severity.contrastive.encoders import Stem
from gradiometer.severity.preparation import Contrast

RECORDS = "probes.jsonl"
TARGETS = ("class>=2", "class")
SPLITS = ("validation", "test")
SEVERITY = "severity"

METHODS: Mapping[str, tuple[str, ...] | None] = {
    "random weights": None,
    "SimCLR": (),
    "severity labels": (SEVERITY,),
    "severity labels + SimCLR": (SEVERITY, "image"),
}
"""Name -> columns of the loss; None for no pre-training. Two columns are two losses, summed."""

BINS = 10
"""Severity labels; chosen, like all constants of this module, on training and validation photographs."""

RECIPE = ContrastiveRecipe(
    temperature=0.1,
    augmentation=Augmentation(smallest_crop=0.7, jitter=0.1, grey_share=0.0),
    epochs=12,
    batch_size=64,
    learning_rate=0.1,
    schedule="cosine",
)
ENCODER: tuple[str, Stem] = ("resnet8", "large")
CONTRAST: Contrast = "local"
SCORE: Score = "subspace"
ALPHA = 0.03
"""What the auto-encoder sees, its gradient constraint, and the score that the labels are made of."""


def run(bench: SeverityBench) -> None:
    """Pre-train by every contrast, method and seed, probe validation and test photographs, and write the records.

    Trainings are kept, so that an interrupted run continues.

    Args:
        bench: Settings and records.
    """
    for contrast in bench.settings.contrasts:
        if not _there(bench, contrast):
            _round(bench, contrast)


def _round(bench: SeverityBench, contrast: str) -> None:
    settings = bench.settings
    train, validation, test = (cohort(bench, part, contrast) for part in ("train", "val", "test"))
    architecture = settings_for(train.images.images, *ENCODER)
    weights: dict[str, list[str]] = {name: [] for name in METHODS}
    asked: dict[str, tuple[list[ProbeResult], ...]] = {name: ([], []) for name in METHODS}
    for number, seed in enumerate(settings.seeds):
        labels = severity_labels(scores(bench, seed), BINS).astype(np.float64)
        known = replace(train, columns={SEVERITY: labels})
        recipe = replace(RECIPE, seed=seed, epochs=settings.contrastive_epochs)
        for at, name in enumerate(METHODS):
            bench.say(f"encoders, pixels {contrast}", number * len(METHODS) + at, len(settings.seeds) * len(METHODS))
            encoder = encoder_of(known, METHODS[name], architecture, recipe, settings.networks)
            weights[name].append(weights_hash(encoder))
            for results, part in zip(asked[name], (validation, test), strict=True):
                results.append(probe(encoder, train, part, TARGETS))
    for at, (split, part) in enumerate(zip(SPLITS, (validation, test), strict=True)):
        results_of = {name: several[at] for name, several in asked.items()}
        hashes = {"train": pixels_hash(train.images.images), "test": pixels_hash(part.images.images)}
        for record in _records(bench, title(split, contrast), results_of, weights, hashes):
            probes.append(settings.out / RECORDS, record)


def title(split: str, contrast: str) -> str:
    """What the records of one round call their photographs."""
    return f"RetinaMNIST, {split}, pixels {contrast}"


def cohort(bench: SeverityBench, split: str, contrast: str) -> Cohort:
    """The photographs of a split as encoders see them, with their grades as the column `class`.

    Args:
        bench: Settings.
        split: `train`, `val` or `test`.
        contrast: What is done to them, see `severity.Preparation`.
    """
    images = data.load(retina.NAME, root=bench.settings.data_root, split=split)
    images = images.select(np.arange(len(images))[: bench.settings.limit])
    seen = Preparation(channels=images.images.shape[1], contrast=contrast)  # type: ignore[arg-type]
    return Cohort.of(replace(images, images=seen.apply(images)[:, 0]))


def scores(bench: SeverityBench, seed: int) -> Floats:
    """Severity of the training photographs, by the auto-encoder of those of grade 0.

    Four in five of the latter have trained it, and score less than they would have otherwise.

    Args:
        bench: Settings.
        seed: Of the auto-encoder.
    """
    settings = bench.settings
    sets = retina.sets_of(retina.load(settings.data_root, settings.limit), CONTRAST, seed)
    network = trained(sets.train, sets.chosen_by, settings.recipe(ALPHA, seed, settings.epochs), settings.networks)
    detector = GradCon.of(network, score=SCORE, directions=settings.directions)
    detector.fit(sets.train.numpy())
    seen = cohort(bench, "train", CONTRAST).images.images
    return detector.score_by(SCORE, detector.statistics(seen.numpy()))


def _records(
    bench: SeverityBench,
    photographs: str,
    results: Mapping[str, Sequence[ProbeResult]],
    weights: Mapping[str, Sequence[str]],
    hashes: Mapping[str, str],
) -> list[probes.ProbeRecord]:
    """Figures of every method, and what severity labels gain over the two that do without."""
    settings = bench.settings
    figures = {
        name: probes.measured(
            several,
            data=photographs,
            encoder=name,
            seeds=settings.seeds,
            weights=weights[name],
            data_sha256=hashes,
            draws=settings.draws,
            settings=_notes(bench),
        )
        for name, several in results.items()
    }
    made = [record for several in figures.values() for record in several]
    for first in ("severity labels", "severity labels + SimCLR"):
        for second in ("SimCLR", "random weights"):
            made += probes.compared(
                (first, results[first]), (second, results[second]), figures[first], draws=settings.draws
            )
    return made


def _notes(bench: SeverityBench) -> dict[str, object]:
    """The settings that the records depend on."""
    settings = bench.settings
    recipe = {name: value for name, value in asdict(RECIPE).items() if name not in ("seed", "epochs", "weights")}
    return {
        **recipe,
        "epochs": settings.contrastive_epochs,
        "auto-encoder epochs": settings.epochs,
        "bins": BINS,
        "score": SCORE,
        "contrast": CONTRAST,
        "encoder": " ".join(ENCODER),
        "limit": settings.limit,
    }


def _there(bench: SeverityBench, contrast: str) -> bool:
    """Whether all records of a round are there under these settings."""
    wanted = json.loads(json.dumps(_notes(bench)))
    done = {
        (record.data, record.encoder)
        for record in probes.read(bench.settings.out / RECORDS)
        if json.loads(json.dumps(dict(record.settings))) == wanted
        and (record.kind, record.seeds, record.draws) == ("figures", bench.settings.seeds, bench.settings.draws)
    }
    return done >= {(title(split, contrast), name) for split in SPLITS for name in METHODS}
