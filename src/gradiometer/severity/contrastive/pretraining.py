"""Contrastive pre-training: seeded, and resumable at any step to the same bits."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from gradiometer import given
from gradiometer.errors import InputError
from gradiometer.models import checkpoint
from gradiometer.models.training import Progress, Steps, environment
from gradiometer.seeding import derived_seed
from gradiometer.severity.contrastive.encoders import Encoder, EncoderSettings, make_encoder, make_projection
from gradiometer.severity.contrastive.loss import UNLABELLED, contrastive_loss
from gradiometer.severity.contrastive.views import Augmentation, Views

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class ContrastiveRecipe:
    """How an encoder is pre-trained: stochastic gradient descent with momentum. The defaults are the released ones.

    Attributes:
        temperature: Of the loss.
        weights: Factor of each column of labels; 1 for all when empty.
        augmentation: What two views differ by.
        epochs: Passes over the images. A training continues with more of them if its schedule is constant.
        batch_size: Images in a step, each in two views. Images that do not fill a batch are left out of an epoch.
        learning_rate: The highest of the schedule.
        schedule: `constant`, or `cosine`, which falls to zero after a rise over the first tenth.
        momentum: Of the optimiser.
        weight_decay: Of all parameters.
        seed: Of the initial weights, the order of the images and the views.

    Raises:
        InputError: A setting is out of range.
    """

    temperature: float = 0.07
    weights: tuple[float, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        given.number("temperature", self.temperature, "a number above 0", above=0)
        for weight in self.weights:
            given.number("a weight", weight, "a number of 0 or more", least=0)
        given.whole("epochs", self.epochs)
        given.whole("batch_size", self.batch_size, 2)
        given.number("learning_rate", self.learning_rate, "a number above 0", above=0)
        if self.schedule not in ("constant", "cosine"):
            raise InputError(f"schedule is {self.schedule!r}; give constant or cosine")
        given.number("momentum", self.momentum, "a number from 0 to below 1", least=0, below=1)
        given.number("weight_decay", self.weight_decay, "a number of 0 or more", least=0)
        given.whole("seed", self.seed, 0)

    def rate(self, progress: float) -> float:
        """The learning rate at a point of the training, from 0 (start) to 1 (end).

        Example:
            >>> recipe = ContrastiveRecipe(learning_rate=0.2, schedule="cosine")
            >>> [round(recipe.rate(at), 3) for at in (0, 0.1, 0.55, 1)]
            [0.0, 0.2, 0.1, 0.0]
        """
        if self.schedule == "constant":
            return self.learning_rate
        if progress < 0.1:
            return self.learning_rate * progress / 0.1
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))

    def fixed(self) -> dict[str, Any]:
        """The settings that a training that continues has to share, as JSON values."""
        settings = asdict(self)
        settings["weights"] = list(self.weights)
        if self.schedule == "constant":
            del settings["epochs"]
        return settings


@dataclass(frozen=True, eq=False)
class Pretrained:
    """An encoder and how it came about.

    Attributes:
        encoder: In evaluation mode.
        record: Recipe, columns, figures of every epoch, hash of images and labels, and environment.
    """

    encoder: Encoder
    record: dict[str, Any]


def pretrain(
    images: Tensor,
    labels: Mapping[str, Tensor] | None,
    settings: EncoderSettings,
    recipe: ContrastiveRecipe,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    checkpoint_steps: int = 1000,
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> Pretrained:
    """Train an encoder so that views of images with equal labels are near each other.

    Args:
        images: uint8 (N, K, H, W), at least one batch.
        labels: int64 (N,) by name of the column, -1 where there is none; None or empty for SimCLR.
        settings: What the encoder is.
        recipe: How to train.
        folder: Takes `checkpoint.safetensors`, and continues from it when it is there.
        device: Where to train.
        checkpoint_steps: Steps between two checkpoints; there is one at the end of every epoch as well.
        progress: Called with the figures of each epoch, after its checkpoint is written.
        steps: Called after each step with the steps done and the steps of the whole training.

    Returns:
        The encoder; its projection is in the checkpoint and of no further use.

    Raises:
        InputError: Images, labels and recipe do not fit each other, or the loss is no longer finite.
        ArtefactError: The checkpoint in the folder belongs to another training, or cannot be read or written.
    """
    columns = _columns(images, labels, settings, recipe)
    given.whole("checkpoint_steps", checkpoint_steps)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(images, columns, settings, recipe, folder / CHECKPOINT, torch.device(device), tuple(labels or ()))
    run.resume()
    while len(run.history) < recipe.epochs:
        started = time.perf_counter()
        for step, rows in run.batches():
            run.take(rows)
            if steps is not None:
                steps(len(run.history) * run.count + step + 1, recipe.epochs * run.count)
            if run.step % checkpoint_steps == 0 and run.step < run.count:
                run.seconds, started = run.seconds + time.perf_counter() - started, time.perf_counter()
                run.save()
        run.seconds += time.perf_counter() - started
        figures = run.close()
        if progress is not None:
            progress(figures)
    return Pretrained(run.encoder.eval(), run.record())


class _Run:
    """The state of a training, and what is done to it."""

    def __init__(
        self,
        images: Tensor,
        columns: Tensor,
        settings: EncoderSettings,
        recipe: ContrastiveRecipe,
        path: Path,
        device: torch.device,
        names: tuple[str, ...],
    ) -> None:
        self.images, self.columns, self.recipe, self.path, self.names = images, columns, recipe, path, names
        self.encoder = make_encoder(settings, recipe.seed).to(device)
        projection = make_projection(self.encoder.width, recipe.seed + 1).to(device)
        self.model = nn.ModuleDict({"encoder": self.encoder, "projection": projection})
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.views = Views(recipe.augmentation, (images.shape[2], images.shape[3]))
        self.device = device
        self.count = len(images) // recipe.batch_size
        self.digest = _digest(images, columns)
        self.history: list[dict[str, float]] = []
        self.step, self.sum, self.seconds = 0, 0.0, 0.0

    def batches(self) -> list[tuple[int, Tensor]]:
        """The steps of this epoch that are still to be taken, with the rows of each."""
        generator = Generator().manual_seed(derived_seed(self.recipe.seed, len(self.history)))
        order = torch.randperm(len(self.images), generator=generator)
        size = self.recipe.batch_size
        return [(step, order[step * size : (step + 1) * size]) for step in range(self.step, self.count)]

    def take(self, rows: Tensor) -> None:
        """One step of the optimiser."""
        self.model.train()
        epoch = len(self.history)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate((epoch + self.step / self.count) / self.recipe.epochs)
        seed = derived_seed(self.recipe.seed, epoch, self.step)
        views = self.views.pair(self.images[rows], seed).to(self.device)
        inputs = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        projections = self.model["projection"](self.encoder(inputs)).unflatten(0, (len(rows), 2))
        loss = contrastive_loss(
            projections,
            self.columns[rows],
            temperature=self.recipe.temperature,
            weights=self.recipe.weights or None,
        )
        if not math.isfinite(value := loss.item()):
            raise InputError(
                f"the loss is {value} in epoch {epoch + 1}; lower learning_rate (now {self.recipe.learning_rate})"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.sum += value
        self.step += 1

    def close(self) -> dict[str, float]:
        """End an epoch: its figures and a checkpoint."""
        figures = {"epoch": len(self.history) + 1, "loss": self.sum / self.count, "seconds": self.seconds}
        self.history.append(figures)
        self.step, self.sum, self.seconds = 0, 0.0, 0.0
        self.save()
        return figures

    def save(self) -> None:
        """Write the checkpoint."""
        notes = {"step": self.step, "sum": self.sum, "seconds": self.seconds}
        done = checkpoint.Reached(self.history, notes=notes)
        checkpoint.save(self.path, self.model, self.optimizer, self._settings(), self.digest, done)

    def resume(self) -> None:
        """Continue from the checkpoint, when there is one."""
        if not self.path.exists():
            return
        found = checkpoint.resume(self.path, self.model, self.optimizer, self._settings(), self.digest)
        self.history = found.history
        self.step = int(found.notes.get("step", 0))
        self.sum, self.seconds = float(found.notes.get("sum", 0.0)), float(found.notes.get("seconds", 0.0))

    def record(self) -> dict[str, Any]:
        """What was done."""
        return {
            "encoder": _json(self.encoder.settings),
            "recipe": {**asdict(self.recipe), "weights": list(self.recipe.weights)},
            "columns": {
                name: {
                    "labels": len(column[column != UNLABELLED].unique()),
                    "labelled": int((column != UNLABELLED).sum()),
                }
                for name, column in zip(self.names, self.columns.T, strict=False)
            },
            "images": len(self.images),
            "sha256": self.digest,
            "environment": environment(self.encoder),
            "seconds": sum(figures["seconds"] for figures in self.history),
            "epochs": self.history,
        }

    def _settings(self) -> dict[str, Any]:
        return {**self.recipe.fixed(), "encoder": _json(self.encoder.settings), "columns": list(self.names)}


def _json(settings: EncoderSettings) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def _digest(images: Tensor, columns: Tensor) -> str:
    """SHA-256 over shape and pixels of the images, and over the labels."""
    digest = hashlib.sha256(str((tuple(images.shape), tuple(columns.shape))).encode())
    digest.update(images.contiguous().numpy().tobytes())
    digest.update(columns.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _columns(
    images: Tensor, labels: Mapping[str, Tensor] | None, settings: EncoderSettings, recipe: ContrastiveRecipe
) -> Tensor:
    """The labels as (N, L) int64, after everything is checked against everything."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != settings.channels:
        raise InputError(
            f"images must be uint8 (N, {settings.channels}, height, width) for this encoder, got {images.dtype} "
            f"{tuple(images.shape)}"
        )
    if len(images) < recipe.batch_size:
        raise InputError(
            f"{len(images)} images are less than one batch of {recipe.batch_size}; give more, or lower batch_size"
        )
    for name, column in (labels or {}).items():
        if column.dtype != torch.int64 or column.shape != (len(images),):
            raise InputError(
                f"the column {name!r} must be int64 of shape ({len(images)},), one label for each image, got "
                f"{column.dtype} {tuple(column.shape)}"
            )
        if bool((column == UNLABELLED).all()):
            raise InputError(f"the column {name!r} has no label at all; leave it out")
    count = max(1, len(labels or {}))
    if recipe.weights and len(recipe.weights) != count:
        raise InputError(f"{len(recipe.weights)} weights for {count} columns of labels; give one for each")
    if not labels:
        return torch.full((len(images), 1), UNLABELLED)
    return torch.stack(list(labels.values()), dim=1)
