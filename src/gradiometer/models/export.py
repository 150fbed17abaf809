"""Train an architecture by name and store the result: the piece behind `gradiometer train`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gradiometer.errors import ArtefactError, InputError
from gradiometer.files import write_text
from gradiometer.models import stored
from gradiometer.models.factory import architecture, build
from gradiometer.models.hashing import weights_hash
from gradiometer.models.training import Labelled, Progress, Recipe, Steps, accuracy, train


class Pictures(Protocol):
    """Images with labels."""

    @property
    def images(self) -> Tensor:
        """uint8 (N, K, H, W)."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """int64 (N,)."""
        ...


def train_to_file(
    name: str,
    known: Pictures,
    test: Pictures,
    folder: str | Path,
    recipe: Recipe | None = None,
    *,
    class_names: Sequence[str] | None = None,
    start_from: str | Path | None = None,
    half: bool = True,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Train a network and write `model.safetensors` and `record.json`; continue when the folder holds a checkpoint.

    Mean and standard deviation of the training images become part of the model. The test accuracy in the record is
    that of the stored file, read back.

    Args:
        name: One of `gradiometer.models.architectures()`.
        known: The training images: `Labelled`, or anything with uint8 `images` and `labels` such as `data.Images`;
            every class needs at least one.
        test: Held-out images; they are measured and never used.
        folder: Takes the results, and `checkpoint.safetensors` after every epoch.
        recipe: The settings; those of the architecture when absent.
        class_names: C names in the order of the labels; the numbers from 0 when absent.
        start_from: Folder of an earlier training whose weights to begin with (a warm restart; Loshchilov and Hutter,
            "SGDR", ICLR 2017); its record becomes part of the new one. Random weights when absent.
        half: Whether weights are stored as float16.
        device: Where to train.
        progress: Called with the figures of each epoch.
        steps: Called after each batch with the batches done and the batches of the whole training.

    Returns:
        The record, as written.

    Raises:
        ModelError: If there is no such architecture.
        InputError: If images, labels and class names do not fit each other, the folder is the one to start from, or
            the loss is no longer finite.
        ArtefactError: If the folder holds a checkpoint of another training, or of one that began with other weights,
            or cannot be written to, or the weights to start from are those of another network.
    """
    folder = Path(folder)
    known, test = _labelled(known), _labelled(test)
    recipe = architecture(name).recipe if recipe is None else recipe
    header = _header(name, known, test, class_names)
    mean, std = channel_statistics(known.images)
    # The caller's random numbers stay where they are.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build(name, header.classes, header.channels, header.size, mean, std)
    earlier = None if start_from is None else _start(model, Path(start_from), folder)
    start = "" if earlier is None else weights_hash(model)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = train(model, known, test, recipe, folder, start=start, progress=progress, steps=steps)
    path = folder / stored.WEIGHTS
    stored.write(path, model, header, half=half)
    model = stored.read(path)
    record = {
        "architecture": header.architecture,
        "classes": header.classes,
        "channels": header.channels,
        "size": header.size,
        "class_names": list(header.class_names),
        "test_accuracy": accuracy(model.to(device), test),
        "stored": {
            "bytes": path.stat().st_size,
            "floats": "float16" if half else "float32",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "weights": weights_hash(model),
        },
        **trained,
    }
    if earlier is not None:
        record["started_from"] = earlier
    write_text(folder / stored.RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def _start(model: nn.Module, folder: Path, out: Path) -> dict[str, Any]:
    """Load the weights of an earlier training; returns its record."""
    if folder.resolve() == out.resolve():
        raise InputError(f"start_from is {folder}, which the new weights would replace; train into another folder")
    stored.load_weights(model, stored.read_weights(folder / stored.WEIGHTS), str(folder))
    path = folder / stored.RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ArtefactError(f"{path} is missing or broken ({error}); start from the folder of a training") from error
    return record


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for images scaled to [0, 1].

    Counts the 256 grey levels of each channel, which is exact and needs no copy of the images in floats.

    Args:
        images: uint8 (N, K, H, W).

    Returns:
        K means and K standard deviations (unbiased); a constant channel has deviation 1, so that it can be divided by.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).double()
        total = counts.sum()
        mean = (counts @ levels) / total
        variance = float(counts @ (levels - mean) ** 2 / (total - 1).clamp_min(1))
        means.append(float(mean))
        # Rounding leaves a constant channel a variance just above zero.
        deviations.append(variance**0.5 if torch.count_nonzero(counts) > 1 else 1.0)
    return means, deviations


def _labelled(pictures: Pictures) -> Labelled:
    if isinstance(pictures, Labelled):
        return pictures
    if pictures.labels is None:
        raise InputError("a classifier is trained on labelled images, and these have no labels")
    return Labelled(pictures.images, pictures.labels)


def _header(name: str, known: Labelled, test: Labelled, class_names: Sequence[str] | None) -> stored.Header:
    """Check that the parts fit each other, and say what the model will be."""
    channels, height, width = known.images.shape[1:]
    if height != width:
        raise InputError(f"training images must be square, got {height} x {width}; resize them")
    if test.images.shape[1:] != known.images.shape[1:]:
        raise InputError(
            f"test images have shape {tuple(test.images.shape[1:])}, training images {tuple(known.images.shape[1:])}"
        )
    highest = int(max(known.labels.max(), test.labels.max()))
    names = tuple(map(str, range(highest + 1))) if class_names is None else tuple(map(str, class_names))
    if highest >= len(names):
        raise InputError(f"there is a label {highest} but only {len(names)} class names; labels count from 0")
    empty = (torch.bincount(known.labels.long(), minlength=len(names)) == 0).nonzero().flatten().tolist()
    if empty:
        listed = ", ".join(names[index] for index in empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise InputError(
            f"{len(empty)} of {len(names)} classes have no training image: {listed}; add some or leave the classes out"
        )
    return stored.Header(name, len(names), channels, height, names)
