"""From healthy scans to one file: train the auto-encoder, fit its detector, learn what healthy scans score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradiometer.anomaly import AnomalyRecipe, GradCon, make_network, train
from gradiometer.anomaly.export import divide
from gradiometer.anomaly.networks import SMALLEST
from gradiometer.data import Images
from gradiometer.detectors import images_needed
from gradiometer.detectors.fingerprints import check_none_fitted, fingerprints
from gradiometer.files import write_text
from gradiometer.models.training import Progress, Steps
from gradiometer.severity.model import HELD_OUT, Pool, SeverityModel
from gradiometer.severity.preparation import Preparation

ARTEFACT, RECORD = "severity.safetensors", "record.json"

_ANY = 0.5
"""A rate that one held-out scan is enough for: percentiles need no more, and verdicts say when they do."""

_AT_ONCE = 256
"""Tiles whose digests are taken at once."""


def train_severity(
    healthy: Images,
    folder: str | Path,
    preparation: Preparation | None = None,
    recipe: AnomalyRecipe | None = None,
    *,
    validation: Images | None = None,
    held_out: Images | None = None,
    pool: Pool = "mean",
    false_alarm_rate: float = 0.05,
    settings: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> SeverityModel:
    """Train an auto-encoder of healthy scans, and make its severity model.

    Args:
        healthy: Healthy scans, and nothing else. A tenth of them, base image by base image, becomes the validation
            scans and another tenth the held-out ones, unless those are given.
        folder: Takes `severity.safetensors`, `record.json` and `checkpoint.safetensors`. An interrupted training
            continues from the checkpoint.
        preparation: How scans become inputs; as they are when None.
        recipe: How to train.
        validation: Healthy scans to choose the weights by.
        held_out: Healthy scans whose scores the percentiles are taken from.
        pool: How the scores of tiles become that of their scan.
        false_alarm_rate: Share of healthy scans that may be called unusual. When fewer scans were held out than it
            needs, it is the lowest that they allow, 1 / (n + 1).
        settings: Further arguments of `GradCon`, such as `score`.
        device: Where to train.
        progress: Called with the figures of each epoch.
        steps: Called after each step with the steps done and the steps of the whole training.

    Returns:
        The model, calibrated.

    Raises:
        InputError: The scans are too few, do not fit each other or the settings, or are held out and trained on.
        ArtefactError: The folder holds a checkpoint of another training, or cannot be written to.
    """
    folder = Path(folder)
    recipe = AnomalyRecipe() if recipe is None else recipe
    if preparation is None:
        preparation = Preparation(channels=healthy.images.shape[1])
    # A setting that cannot be is noticed now, and not after hours of training.
    untrained = GradCon(make_network(recipe.network, preparation.channels, SMALLEST, seed=0), **(settings or {}))
    SeverityModel(untrained, preparation, pool)
    images_needed(false_alarm_rate)
    parts = divide(healthy, validation, held_out, _ANY, recipe.seed)
    known, chosen_by = (prepared(part, preparation) for part in (parts.train, parts.validation))
    untrained.check_enough(known)
    if held_out is not None:
        # The model asks again when it is calibrated, but that is after hours of training.
        check_none_fitted(_among(prepared(held_out, preparation), known, len(held_out)), *HELD_OUT)
    trained = train(known.images, chosen_by.images, recipe, folder, device=device, progress=progress, steps=steps)
    detector = GradCon.of(trained, **(settings or {})).fit(known)
    model = SeverityModel(detector, preparation, pool)
    # Divide leaves out the held-out scans only when there is none.
    assert parts.held_out is not None
    model.calibrate(parts.held_out, max(false_alarm_rate, 1 / (len(parts.held_out) + 1)))
    model.save(folder / ARTEFACT)
    write_text(folder / RECORD, json.dumps(trained.record, indent=1, ensure_ascii=False) + "\n")
    return model


def _among(tiles: Images, known: Images, count: int) -> npt.NDArray[np.bool_]:
    """Whether each of `count` scans has all its tiles among the known ones."""
    found, fitted = (np.concatenate([fingerprints(part) for part in one.batches(_AT_ONCE)]) for one in (tiles, known))
    return np.asarray(np.isin(found, fitted).reshape(count, -1).all(axis=1))


def prepared(scans: Images, preparation: Preparation) -> Images:
    """The inputs of the auto-encoder as images, each tile with the name and the base image of its scan."""
    tiles = preparation.apply(scans)
    count = tiles.shape[1]
    return replace(
        scans,
        images=tiles.flatten(0, 1),
        labels=None,
        names=tuple(f"{name}#{tile}" if count > 1 else name for name in scans.names for tile in range(count)),
        groups=scans.groups.repeat_interleave(count),
        classes=(),
    )
