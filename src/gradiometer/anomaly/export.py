"""From normal images to one file: train an auto-encoder, fit and calibrate its detector."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gradiometer import data
from gradiometer.anomaly.detector import GradCon
from gradiometer.anomaly.networks import SMALLEST, make_network
from gradiometer.anomaly.recipe import AnomalyRecipe
from gradiometer.anomaly.training import train
from gradiometer.data import Images
from gradiometer.detectors import images_needed
from gradiometer.detectors.fingerprints import check_unseen, fingerprints
from gradiometer.errors import InputError
from gradiometer.files import write_text
from gradiometer.models.training import Progress, Steps

ARTEFACT, RECORD = "gradcon.safetensors", "record.json"
_SHARES = {"validation": 0.1, "held_out": 0.1}


@dataclass(frozen=True, eq=False)
class Parts:
    """Normal images by what they are for.

    Attributes:
        train: The weights are learnt from these.
        validation: The best weights are chosen by these.
        held_out: The false-alarm rate is set on these, or None when there are too few.
    """

    train: Images
    validation: Images
    held_out: Images | None


def train_gradcon(
    known: Images,
    folder: str | Path,
    recipe: AnomalyRecipe | None = None,
    *,
    validation: Images | None = None,
    held_out: Images | None = None,
    false_alarm_rate: float = 0.05,
    settings: dict[str, Any] | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> GradCon:
    """Train an auto-encoder of normal images, and make its detector, fitted and calibrated.

    Args:
        known: Normal images of one size. A tenth of them, base image by base image, becomes the validation images and
            another tenth the held-out ones, unless those are given.
        folder: Takes `gradcon.safetensors` (the detector with its auto-encoder), `record.json` and
            `checkpoint.safetensors`. An interrupted training continues from the checkpoint.
        recipe: How to train.
        validation: Normal images to choose the weights by.
        held_out: Normal images to set the false-alarm rate on, at least 1 / rate - 1.
        false_alarm_rate: Share of normal images that may be flagged.
        settings: Further arguments of `GradCon`.
        device: Where to train.
        progress: Called with the figures of each epoch.
        steps: Called after each step with the steps done and the steps of the whole training.

    Returns:
        The detector. It is not calibrated when a tenth of the known images is fewer than the rate needs.

    Raises:
        InputError: The images are too few, or do not fit each other or the recipe. What can be known of that before
            the training is said before it.
        ArtefactError: The folder holds a checkpoint of another training, or cannot be written to.
    """
    folder = Path(folder)
    recipe = AnomalyRecipe() if recipe is None else recipe
    # A setting that no detector takes is noticed now, and not after hours of training.
    untrained = GradCon(make_network(recipe.network, known.images.shape[1], SMALLEST, seed=0), **(settings or {}))
    parts = divide(known, validation, held_out, false_alarm_rate, recipe.seed)
    untrained.check_enough(parts.train)
    if held_out is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # calibrate warns of the few that it tolerates
            check_unseen(fingerprints(held_out.images), fingerprints(parts.train.images), "held-out images")
    trained = train(
        parts.train.images,
        parts.validation.images,
        recipe,
        folder,
        device=device,
        progress=progress,
        steps=steps,
    )
    detector = GradCon.of(trained, **(settings or {})).fit(parts.train)
    if parts.held_out is not None:
        detector.calibrate(parts.held_out, false_alarm_rate)
    detector.save(folder / ARTEFACT)
    write_text(folder / RECORD, json.dumps(trained.record, indent=1, ensure_ascii=False) + "\n")
    return detector


def divide(
    known: Images, validation: Images | None, held_out: Images | None, false_alarm_rate: float, seed: int
) -> Parts:
    """Take validation and held-out images from the known ones, where they are not given.

    Identical images stay together, as those of one base image do.

    Args:
        known: Normal images.
        validation: Normal images to choose the weights by, or None.
        held_out: Normal images to set the false-alarm rate on, or None.
        false_alarm_rate: The rate.
        seed: Of the division.

    Raises:
        InputError: There are too few images to divide, or fewer held-out ones were given than the rate needs.
    """
    if held_out is not None and len(held_out) < (fewest := images_needed(false_alarm_rate)):
        raise InputError(
            f"a false-alarm rate of {false_alarm_rate:g} needs at least {fewest} held-out images, there are "
            f"{len(held_out)}; give more, or choose a rate of {1 / (len(held_out) + 1):.2g} or more"
        )
    given = {"validation": validation, "held_out": held_out}
    needed = {name: share for name, share in _SHARES.items() if given[name] is None}
    if needed:
        shares = {"train": 1 - sum(needed.values()), **needed}
        try:
            parts: dict[str, Images] = data.split(_with_copies(known), shares, seed, stratify=False)
        except InputError as error:
            raise InputError(
                f"{len(known)} normal images cannot be divided into {', '.join(shares)}: {error}"
            ) from error
    else:
        parts = {"train": known}
    found = {name: images if images is not None else parts[name] for name, images in given.items()}
    last = found["held_out"]
    enough = held_out is not None or len(last) >= images_needed(false_alarm_rate)
    return Parts(parts["train"], found["validation"], last if enough else None)


def _with_copies(images: Images) -> Images:
    """The same images, with the base images of identical ones made one: a copy is no new image."""
    _, pixels = np.unique(fingerprints(images.images), return_inverse=True)
    _, bases = np.unique(images.groups.numpy(), return_inverse=True)
    # What is of one base image or has the same pixels hangs together, over any number of steps.
    count = int(bases.max()) + 1
    size = count + int(pixels.max()) + 1
    edges = coo_array((np.ones(len(images)), (bases, count + pixels)), shape=(size, size))
    joined = connected_components(edges, directed=False)[1][:count]
    first = np.unique(joined, return_index=True)[1]
    # Named after its first base image, so that images without copies are divided as they always were.
    return replace(images, groups=torch.from_numpy(first[joined][bases].astype(np.int64)))
