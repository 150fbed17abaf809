"""From images with labels to one file that holds the encoder, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradiometer.data import Cohort
from gradiometer.detectors import storage
from gradiometer.errors import ArtefactError, InputError
from gradiometer.files import write_text
from gradiometer.models.export import channel_statistics
from gradiometer.models.training import Progress, Steps
from gradiometer.severity.contrastive.encoders import Encoder, EncoderSettings, Stem, make_encoder
from gradiometer.severity.contrastive.pretraining import ContrastiveRecipe, Pretrained, pretrain

ARTEFACT, RECORD = "encoder.safetensors", "record.json"

_CLASS = "ContrastiveEncoder"
_SMALL = 64
"""Largest height or width, in pixels, for which the small stem is taken."""


@dataclass(frozen=True, eq=False)
class Stored:
    """An encoder from a file.

    Attributes:
        encoder: In evaluation mode.
        size: Height and width of the images that it was trained on.
        columns: Columns of labels that it was trained with; empty for SimCLR.
        patients: Patients whose images it has seen, or None when that was not known.
        training: Recipe, epochs and environment, as far as later commands and records need them.
    """

    encoder: Encoder
    size: tuple[int, int]
    columns: tuple[str, ...]
    patients: tuple[str, ...] | None
    training: dict[str, Any]


def settings_for(images: Tensor, name: str = "resnet18", stem: Stem | None = None) -> EncoderSettings:
    """Settings of an encoder for images, with their mean and standard deviation.

    Args:
        images: uint8 (N, K, H, W).
        name: One of `ENCODERS`.
        stem: `large` or `small`; small up to 64 pixels when None.
    """
    mean, std = channel_statistics(images)
    chosen: Stem = stem or ("small" if max(images.shape[-2:]) <= _SMALL else "large")
    return EncoderSettings(name, images.shape[1], chosen, tuple(mean), tuple(std))


def pretrain_to_file(
    cohort: Cohort,
    columns: Sequence[str],
    folder: str | Path,
    settings: EncoderSettings | None = None,
    recipe: ContrastiveRecipe | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> Pretrained:
    """Pre-train an encoder on a cohort, and write it.

    Args:
        cohort: Images with columns. None of their values is used but those of `columns`.
        columns: Columns whose equal values make two images alike, one loss for each, summed: a severity label, BCVA,
            CST, the eye. `image` gives every image a label of its own, which adds SimCLR to the sum; no column at all
            is SimCLR alone.
        folder: Takes `encoder.safetensors`, `record.json` and `checkpoint.safetensors`. An interrupted training
            continues from the checkpoint.
        settings: What the encoder is; by `settings_for` when None.
        recipe: How to train.
        device: Where to train.
        progress: Called with the figures of each epoch.
        steps: Called after each step with the steps done and the steps of the whole training.

    Returns:
        The encoder and its record.

    Raises:
        InputError: There is no such column, it has no label, or images and recipe do not fit each other.
        ArtefactError: The folder holds a checkpoint of another training, or cannot be written to.
    """
    folder = Path(folder)
    images = cohort.images.images
    if len(set(columns)) != len(columns):
        raise InputError(f"a column is named twice in {', '.join(columns)}; name each once")
    labels = {name: cohort.labels(name) for name in columns}
    trained = pretrain(
        images,
        labels,
        settings or settings_for(images),
        recipe or ContrastiveRecipe(),
        folder,
        device=device,
        progress=progress,
        steps=steps,
    )
    patients = None if cohort.patients is None else sorted({*cohort.patients} - {""})
    kept = {name: trained.record[name] for name in ("recipe", "columns", "images", "sha256", "environment")}
    kept["epochs"] = len(trained.record["epochs"])
    header = {
        "class": _CLASS,
        "encoder": asdict(trained.encoder.settings),
        "size": list(images.shape[-2:]),
        "columns": list(columns),
        "patients": patients,
        "training": kept,
    }
    tensors = {name: value.cpu().numpy() for name, value in trained.encoder.state_dict().items()}
    storage.write(folder / ARTEFACT, header, tensors)
    write_text(folder / RECORD, json.dumps(trained.record, indent=1, ensure_ascii=False) + "\n")
    return trained


def load_encoder(path: str | Path) -> Stored:
    """Read an encoder back; it gives the same features to the last bit.

    Args:
        path: A file that `pretrain_to_file` wrote, or its folder.

    Raises:
        ArtefactError: The file is unusable, or holds something else.
    """
    source = Path(path) / ARTEFACT if Path(path).is_dir() else Path(path)
    artefact = storage.read(source)
    if artefact.get("class") != _CLASS:
        raise ArtefactError(f"{source} holds a {artefact.get('class')}; give a file that severity pretrain wrote")
    given: dict[str, Any] = dict(artefact.get("encoder"))
    given |= {name: tuple(given[name]) for name in ("mean", "std")}
    encoder = make_encoder(EncoderSettings(**given), seed=0)
    try:
        encoder.load_state_dict({name: torch.tensor(array) for name, array in artefact.tensors.items()})
    except RuntimeError as error:
        raise ArtefactError(f"{source} does not hold the weights of its encoder ({error}); write it again") from error
    height, width = artefact.get("size")
    patients = artefact.get("patients")
    return Stored(
        encoder.eval(),
        (height, width),
        tuple(artefact.get("columns")),
        None if patients is None else tuple(patients),
        artefact.get("training"),
    )
