"""Biomarkers of OLIVES from severity labels, beside the published figures: for those who have the scans.

The published pipeline (Kokilepersaud et al., ICIP 2022): an auto-encoder of healthy scans from elsewhere scores the
pool of a released split, the scores become many fine labels, an encoder is pre-trained by them, and a linear head for
each biomarker is tested on as many scans with it as without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from gradiometer import data
from gradiometer.anomaly import GradCon
from gradiometer.benchmarks import probes
from gradiometer.benchmarks.gradcon.cases import trained
from gradiometer.benchmarks.rendering import Cell, Head, Table
from gradiometer.benchmarks.severity.encoders import encoder_of
from gradiometer.benchmarks.severity.settings import SeverityBench
from gradiometer.data import Cohort
from gradiometer.data.hashing import pixels_hash
from gradiometer.data.olives import BIOMARKERS, table_of
from gradiometer.errors import InputError
from gradiometer.models import weights_hash
from gradiometer.severity import Preparation, severity_labels
from gradiometer.severity.contrastive import ContrastiveRecipe, Encoder, probe, settings_for

RECORDS = "olives.jsonl"
SEVERITY = "severity"
METHODS: Mapping[str, tuple[str, ...] | None] = {
    "random weights": None,
    "SimCLR": (),
    "severity labels": (SEVERITY,),
    "BCVA + CST + eye": ("BCVA", "CST", "Eye_ID"),
}
"""Name -> columns of the loss; the last is that of Kokilepersaud et al., JBHI 2023."""

SEEN = Preparation(channels=1, size=(64, 64), contrast="local")
"""What the auto-encoder sees of a scan; the published resolution is not known."""

_HELD_OUT = 10
"""One healthy scan in so many chooses the weights of the auto-encoder."""


@cache
def published() -> dict[str, Any]:
    """The published figures, which are not ours."""
    text = resources.files("gradiometer.benchmarks.severity").joinpath("published_olives.json").read_text("utf-8")
    entries: dict[str, Any] = json.loads(text)
    return entries


def run(bench: SeverityBench) -> None:
    """Run the pipeline on a released split, and write the records.

    Args:
        bench: Settings with the folders of OLIVES and of healthy scans, and records.

    Raises:
        InputError: A folder is not named, or lacks what it should hold.
    """
    settings = bench.settings
    if settings.olives is None or settings.healthy is None:
        raise InputError(
            "the part olives needs the folder of OLIVES and one of healthy scans, such as OCT2017/train/NORMAL; name "
            "them with --olives and --healthy"
        )
    number = settings.olives_split
    pool = _labelled(bench, _part(bench, f"pool{number}"))
    train = _part(bench, f"train{number}")
    tests = {name: _part(bench, f"test{number}_{name}") for name in BIOMARKERS if _exists(bench, name)}
    complete = _part(bench, f"test{number}")
    seen = {*(pool.patients or ())}
    for method, columns in METHODS.items():
        encoders = [_encoder(bench, pool, columns, seed) for seed in settings.seeds]
        for name, test in tests.items():
            _write(bench, method, encoders, train, test, [name], f"OLIVES, balanced test sets of split {number}", seen)
        _write(bench, method, encoders, train, complete, list(BIOMARKERS), f"OLIVES, test set of split {number}", seen)


def tables(found: Sequence[probes.ProbeRecord]) -> list[Table]:
    """Published figures beside ours, empty cells where there are none, and our figures on the whole test set."""
    entries = published()
    made = []
    ours = [record for record in found if record.data.startswith("OLIVES, balanced")]
    for figure in ("accuracy", "F1"):
        rows = [
            (f"{row['encoder']}, published", tuple(Cell(f"{100 * value:.1f}") for value in row[figure]))
            for row in entries["rows"]
        ]
        cells = {(record.encoder, record.target): record.figures[figure] for record in ours}
        for method in METHODS:
            values = [cells.get((method, name)) for name in BIOMARKERS]
            rows.append(
                (
                    method,
                    tuple(
                        Cell("")
                        if value is None
                        else Cell(f"{100 * value.value:.1f}", f"{100 * value.low:.1f}–{100 * value.high:.1f}")
                        for value in values
                    ),
                )
            )
        splits = " and ".join(dict.fromkeys(record.split for record in ours))
        ran = f"Ours: split {splits}" if ours else "Ours: not run, it needs the scans"
        title = (
            f"OLIVES, {figure} in percent, as many scans with each biomarker as without. Published: "
            f"{entries['source']} ({entries['note']}). {ran}"
        )
        made.append(Table(title, "encoder", tuple(map(Head, BIOMARKERS)), tuple(rows)))
    whole = [record for record in found if record.data.startswith("OLIVES, test set")]
    return made + (probes.tables(whole) if whole else [])


def _part(bench: SeverityBench, part: str) -> Cohort:
    settings = bench.settings
    assert settings.olives is not None
    return data.load_cohort(settings.olives, split=part, size=settings.olives_size, channels=1, limit=settings.limit)


def _exists(bench: SeverityBench, biomarker: str) -> bool:
    """Whether the balanced test set of a biomarker is there; the repositories do not have all of them."""
    settings = bench.settings
    assert settings.olives is not None
    try:
        table_of(settings.olives, f"test{settings.olives_split}_{biomarker}")
    except InputError:
        return False
    return True


def _labelled(bench: SeverityBench, pool: Cohort) -> Cohort:
    """The pool with severity labels by an auto-encoder of healthy scans."""
    settings = bench.settings
    assert settings.healthy is not None
    healthy = data.load(settings.healthy, size=SEEN.size, channels=1, limit=settings.limit)
    known = SEEN.apply(healthy)[:, 0]
    chosen_by = np.arange(len(known)) % _HELD_OUT == 0
    recipe = settings.recipe(0.03, settings.seeds[0], settings.epochs)
    network = trained(known[~chosen_by], known[chosen_by], recipe, settings.networks)
    detector = GradCon.of(network, score="subspace", directions=settings.directions).fit(known[~chosen_by].numpy())
    scores = detector.score_by("subspace", detector.statistics(SEEN.apply(pool.images)[:, 0].numpy()))
    bins = min(settings.olives_bins, len(pool))
    labels = severity_labels(scores, bins, keys=pool.images.names).astype(np.float64)
    return replace(pool, columns={**pool.columns, SEVERITY: labels})


def _encoder(bench: SeverityBench, pool: Cohort, columns: tuple[str, ...] | None, seed: int) -> Encoder:
    settings = bench.settings
    architecture = settings_for(pool.images.images, settings.olives_encoder)
    recipe = ContrastiveRecipe(epochs=settings.olives_epochs, batch_size=min(64, len(pool)), seed=seed)
    return encoder_of(pool, columns, architecture, recipe, settings.networks)


def _write(
    bench: SeverityBench,
    method: str,
    encoders: Sequence[Encoder],
    train: Cohort,
    test: Cohort,
    targets: Sequence[str],
    title: str,
    seen: set[str],
) -> None:
    """Probe, and write the records. Released splits share patients, which the records say."""
    settings = bench.settings
    heads: Any = "joint" if len(targets) > 1 else "separate"
    results = [probe(one, train, test, targets, heads=heads, allow_shared=True) for one in encoders]
    made = probes.measured(
        results,
        data=title,
        encoder=method,
        seeds=settings.seeds,
        weights=[weights_hash(one) for one in encoders],
        data_sha256={"train": pixels_hash(train.images.images), "test": pixels_hash(test.images.images)},
        pretraining_shared=0 if METHODS[method] is None else len(seen & {*(test.patients or ())}),
        draws=settings.draws,
        settings={
            "epochs": settings.olives_epochs,
            "bins": settings.olives_bins,
            "size": settings.olives_size,
            "encoder": settings.olives_encoder,
            "limit": settings.limit,
        },
    )
    for record in made:
        probes.append(settings.out / RECORDS, record)
