"""Contrastive pre-training with severity labels against SimCLR and random weights, read by linear probes.

All of it at the same budget: the same photographs, encoder, views, batches and epochs. No grade is used in
pre-training; severity labels come from an auto-encoder of photographs of grade 0, which is all that it is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256

import numpy as np

from gradiometer import data
from gradiometer.anomaly import GradCon
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks import probes
from gradiometer.benchmarks.gradcon.cases import trained
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.records import hash_images
from gradiometer.benchmarks.severity import retina
from gradiometer.benchmarks.severity.settings import Bench
from gradiometer.data import Cohort
from gradiometer.models import weights_hash
from gradiometer.severity import Preparation, severity_labels
from gradiometer.severity.contrastive import (
    Augmentation,
    ContrastiveRecipe,
    Encoder,
    EncoderSettings,
    ProbeResult,
    make_encoder,
    pretrain,
    probe,
    settings_for,
)
from gradiometer.severity.preparation import Contrast

RECORDS = "probes.jsonl"
TARGETS = ("class>=2", "class")
TITLES = ("RetinaMNIST, validation", "RetinaMNIST, test")
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
    augmentation=Augmentation(jitter=0.1, grey_share=0.0),
    epochs=12,
    batch_size=64,
    learning_rate=0.1,
    schedule="cosine",
)
ENCODER = "resnet8"
CONTRAST: Contrast = "local"
SCORE: Score = "subspace"
ALPHA = 0.03
"""What the auto-encoder sees, its gradient constraint, and the score that the labels are made of."""


def run(bench: Bench) -> None:
    """Pre-train by every method and seed, probe on validation and test photographs, and write the records.

    Trainings are kept, so that an interrupted run continues.

    Args:
        bench: Settings and records.
    """
    settings = bench.settings
    path = settings.out / RECORDS
    if _there(bench):
        return
    train, validation, test = (cohort(bench, part) for part in ("train", "val", "test"))
    architecture = settings_for(train.images.images, ENCODER)
    weights: dict[str, list[str]] = {name: [] for name in METHODS}
    asked: dict[str, tuple[list[ProbeResult], ...]] = {name: ([], []) for name in METHODS}
    total = len(settings.seeds) * len(METHODS)
    for number, (seed, name) in enumerate((seed, name) for seed in settings.seeds for name in METHODS):
        bench.say("contrastive pre-training", number, total)
        encoder = encoder_of(bench, train, name, seed, architecture)
        weights[name].append(weights_hash(encoder))
        for results, part in zip(asked[name], (validation, test), strict=True):
            results.append(probe(encoder, train, part, TARGETS))
    bench.say("contrastive pre-training", total, total)
    for at, (title, part) in enumerate(zip(TITLES, (validation, test), strict=True)):
        results_of = {name: several[at] for name, several in asked.items()}
        hashes = {"train": _hash(train), "test": _hash(part)}
        for record in _records(bench, title, results_of, weights, hashes):
            probes.append(path, record)


def cohort(bench: Bench, split: str) -> Cohort:
    """The photographs of a split with their grades as the column `class`."""
    images = data.load(retina.NAME, root=bench.settings.data_root, split=split)
    limit = bench.settings.limit
    return Cohort.of(images.select(np.arange(len(images))[:limit]))


def encoder_of(bench: Bench, train: Cohort, name: str, seed: int, architecture: EncoderSettings) -> Encoder:
    """The encoder of a method, pre-trained or taken from the cache.

    Args:
        bench: Settings.
        train: Photographs to learn from.
        name: One of `METHODS`.
        seed: Of the auto-encoder and of the pre-training.
        architecture: What the encoder is.
    """
    columns = METHODS[name]
    if columns is None:
        return make_encoder(architecture, seed).eval()
    known = replace(train, columns={SEVERITY: severity_labels(scores(bench, train, seed), BINS).astype(np.float64)})
    labels = {column: known.labels(column) for column in columns}
    recipe = replace(RECIPE, seed=seed, epochs=bench.settings.contrastive_epochs)
    parts = [asdict(recipe), asdict(architecture), {key: column.tolist() for key, column in labels.items()}]
    key = sha256(json.dumps([*parts, _hash(train)], sort_keys=True).encode()).hexdigest()[:16]
    return pretrain(
        train.images.images, labels, architecture, recipe, bench.settings.networks / "contrastive" / key
    ).encoder


def scores(bench: Bench, train: Cohort, seed: int) -> Floats:
    """Severity of the training photographs, by the auto-encoder of those of grade 0.

    Four in five of the latter have trained it, and score less than they would have otherwise.
    """
    settings = bench.settings
    sets = retina.sets_of(retina.load(settings.data_root, settings.limit), CONTRAST, seed)
    network = trained(sets.train, sets.chosen_by, settings.recipe(ALPHA, seed, settings.epochs), settings.networks)
    detector = GradCon.of(network, score=SCORE, directions=settings.directions)
    detector.fit(sets.train.numpy())
    seen = Preparation(channels=train.images.images.shape[1], contrast=CONTRAST)
    return detector.score_by(SCORE, detector.statistics(seen.apply(train.images)[:, 0].numpy()))


def _records(
    bench: Bench,
    title: str,
    results: Mapping[str, Sequence[ProbeResult]],
    weights: Mapping[str, Sequence[str]],
    hashes: Mapping[str, str],
) -> list[probes.ProbeRecord]:
    """Figures of every method, and what severity labels gain over the two that do without."""
    settings = bench.settings
    figures = {
        name: probes.measured(
            several,
            data=title,
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


def _notes(bench: Bench) -> dict[str, object]:
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
        "encoder": ENCODER,
        "limit": settings.limit,
    }


def _there(bench: Bench) -> bool:
    """Whether all records are there under these settings."""
    wanted = json.loads(json.dumps(_notes(bench)))
    done = [
        record
        for record in probes.read(bench.settings.out / RECORDS)
        if json.loads(json.dumps(dict(record.settings))) == wanted
        and (record.seeds, record.draws) == (bench.settings.seeds, bench.settings.draws)
    ]
    return {(record.data, record.encoder) for record in done if record.kind == "figures"} == {
        (title, name) for title in TITLES for name in METHODS
    }


def _hash(part: Cohort) -> str:
    return hash_images(part.images.images.numpy())
