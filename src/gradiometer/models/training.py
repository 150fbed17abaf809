"""Train a classifier of small images: seeded, resumable, with a record of how the weights came about.

Everything random is drawn from a generator seeded by (seed, epoch) and the learning rate is a function of the step,
so an interrupted run continues from its last epoch exactly as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.data.images import to_unit
from gradiometer.errors import ArtefactError, InputError
from gradiometer.models import checkpoint
from gradiometer.models.average import Average
from gradiometer.seeding import derived_seed

Progress = Callable[[dict[str, float]], None]
Steps = Callable[[int, int], None]

_START = "start"
"""Note in the checkpoint: what the training began with."""


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained: stochastic gradient descent with Nesterov momentum.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: The highest learning rate of the schedule.
        schedule: `one-cycle` rises linearly over the first quarter and falls along a cosine; `cosine` only falls;
            `constant` stays.
        momentum: Nesterov momentum.
        weight_decay: Applied to weights of convolutions and linear layers, not to biases and normalisation.
        label_smoothing: Share of the label that is spread over all classes.
        augment: `crop-flip` (pad by an eighth and crop, mirror half of the images), `crop` (for digits and signs),
            `none`.
        average: Decay, after each step, of a moving average of weights and statistics that becomes the model (Izmailov
            et al., "Averaging Weights Leads to Wider Optima", UAI 2018); 0 for none.
        precision: `bfloat16` runs the forward pass under autocast; weights and momentum stay float32.
        seed: Seeds the initial weights (by the caller), the order of the images and the augmentation.

    Raises:
        InputError: If a setting is out of range.
    """

    epochs: int = 40
    batch_size: int = 128
    learning_rate: float = 0.2
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augment: Literal["crop-flip", "crop", "none"] = "crop-flip"
    average: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        given.whole("epochs", self.epochs)
        given.whole("batch_size", self.batch_size)
        given.number("learning_rate", self.learning_rate, "a number above 0", above=0)
        given.number("momentum", self.momentum, "a number between 0 and 1", above=0, below=1)
        given.number("weight_decay", self.weight_decay, "a number of 0 or more", least=0)
        given.number("label_smoothing", self.label_smoothing, "a number from 0 to below 1", least=0, below=1)
        given.number("average", self.average, "a number from 0 to below 1", least=0, below=1)
        given.whole("seed", self.seed, 0)
        for name, value, choices in (
            ("schedule", self.schedule, ("one-cycle", "cosine", "constant")),
            ("augment", self.augment, ("crop-flip", "crop", "none")),
            ("precision", self.precision, ("float32", "bfloat16")),
        ):
            if value not in choices:
                raise InputError(f"{name} is {value!r}; give one of {', '.join(choices)}")

    def rate(self, progress: float) -> float:
        """The learning rate at a point of the training, from 0 (start) to 1 (end).

        Example:
            >>> [round(Recipe(learning_rate=0.2).rate(at), 3) for at in (0, 0.25, 0.625, 1)]
            [0.008, 0.2, 0.1, 0.0]
        """
        if self.schedule == "constant":
            return self.learning_rate
        rise = 0.25 if self.schedule == "one-cycle" else 0.0
        if progress < rise:
            return self.learning_rate * (0.04 + 0.96 * progress / rise)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


@dataclass(frozen=True)
class Labelled:
    """Images and their classes.

    Attributes:
        images: uint8 (N, channels, height, width).
        labels: int64 (N,), from 0 to C - 1.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check shapes and types.

        Raises:
            InputError: If images are not uint8 (N, channels, height, width), or labels do not match or are negative.
        """
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise InputError(
                f"training images must be uint8 (N, channels, height, width), "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise InputError(f"{len(self.images)} images but labels of shape {tuple(self.labels.shape)}")
        if len(self.images) == 0:
            raise InputError("there are no images to train on")
        if self.labels.is_floating_point() or self.labels.dtype == torch.bool or int(self.labels.min()) < 0:
            raise InputError(
                f"labels must be integers from 0 on, got {self.labels.dtype} from {self.labels.min().item()}"
            )

    def digest(self) -> str:
        """SHA-256 of pixels and labels."""
        pixels = hashlib.sha256(self.images.contiguous().numpy().tobytes())
        pixels.update(self.labels.contiguous().long().numpy().tobytes())
        return pixels.hexdigest()


def train(
    model: nn.Module,
    known: Labelled,
    test: Labelled,
    recipe: Recipe,
    folder: Path,
    *,
    start: str = "",
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Train a model in place, with a checkpoint after every epoch.

    Args:
        model: Takes float images (B, channels, height, width) in [0, 1] and returns logits (B, C).
        known: The training images.
        test: Held-out images; the accuracy on them is recorded and never used.
        recipe: The settings.
        folder: Takes `checkpoint.safetensors`, and continues from it when it is there.
        start: Hash of the weights of an earlier training that the model begins with; empty for random ones.
        progress: Called with the figures of each epoch, after its checkpoint is written.
        steps: Called after each batch with the batches done and the batches of the whole training.

    Returns:
        The training record: recipe, figures of every epoch, hashes of the data, hardware and versions.

    Raises:
        ArtefactError: If the checkpoint in the folder belongs to another recipe, model, start or set of images, or
            cannot be read or written.
        InputError: If the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoint.safetensors"
    optimizer = _optimizer(model, recipe)
    settings, images = asdict(recipe), known.digest()
    found = checkpoint.resume(path, model, optimizer, settings, images) if path.exists() else checkpoint.Reached([])
    # Checkpoints that do not say what they began with are from before there was a note of it.
    if path.exists() and found.notes.get(_START, start) != start:
        began = f"weights {str(found.notes[_START])[:12]}..." if found.notes[_START] else "random weights"
        raise ArtefactError(
            f"{path} began with {began}, now it would be {f'{start[:12]}...' if start else 'random ones'}; give the "
            "same start_from to continue, or another folder to start again"
        )
    history = found.history
    average = Average(model, recipe.average) if recipe.average else None
    if average is not None and history:
        average.restore(found.tensors)
    for epoch in range(len(history), recipe.epochs):
        started = time.perf_counter()
        figures = _epoch(model, known, optimizer, recipe, epoch, steps, average)
        with nullcontext() if average is None else average.in_place():
            figures["test_accuracy"] = accuracy(model, test)
        figures["seconds"] = time.perf_counter() - started
        history.append(figures)
        done = checkpoint.Reached(history, {} if average is None else average.values, {_START: start})
        checkpoint.save(path, model, optimizer, settings, images, done)
        if progress is not None:
            progress({"epoch": epoch + 1, **figures})
    if average is not None:
        average.become_model()
    return {
        "recipe": settings,
        "images": {"train": len(known.images), "test": len(test.images)},
        "sha256": {"train": images, "test": test.digest()},
        "environment": environment(model),
        "seconds": sum(entry["seconds"] for entry in history),
        "epochs": history,
    }


def environment(model: nn.Module) -> dict[str, Any]:
    """Where a model is trained, as far as it decides the last digits of its weights."""
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
    }


@torch.no_grad()
def accuracy(model: nn.Module, data: Labelled, batch_size: int = 500) -> float:
    """Share of images whose largest logit is that of their class, in evaluation mode."""
    device = next(model.parameters()).device
    right = 0
    with evaluating(model):
        for start in range(0, len(data.images), batch_size):
            images = as_input(data.images[start : start + batch_size], device)
            right += int((model(images).argmax(1).cpu() == data.labels[start : start + batch_size]).sum())
    return right / len(data.images)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards each of its modules is in the mode in which it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def as_input(images: Tensor, device: torch.device) -> Tensor:
    """Float images in [0, 1] on the device of the model, from uint8 ones."""
    return to_unit(images.to(device, non_blocking=True))


def _epoch(
    model: nn.Module,
    known: Labelled,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    epoch: int,
    steps: Steps | None,
    average: Average | None,
) -> dict[str, float]:
    """One pass over the images in random order; the mean loss and accuracy on the way."""
    model.train()
    device = next(model.parameters()).device
    count = math.ceil(len(known.images) / recipe.batch_size)
    total_loss, right = 0.0, 0
    for step, (images, labels) in enumerate(_batches(known, recipe, epoch)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate((epoch + step / count) / recipe.epochs)
        inputs = as_input(images, device)
        if inputs.shape[1] > 1:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = model(inputs)
        labels = labels.to(device)
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        if not math.isfinite(value := loss.item()):
            raise InputError(
                f"the loss is {value} in epoch {epoch + 1}; lower learning_rate (now {recipe.learning_rate})"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if average is not None:
            average.update()
        total_loss += value * len(labels)
        right += int((logits.argmax(1) == labels).sum())
        if steps is not None:
            steps(epoch * count + step + 1, recipe.epochs * count)
    return {"loss": total_loss / len(known.images), "accuracy": right / len(known.images)}


def _batches(known: Labelled, recipe: Recipe, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented batches of one epoch, the same for the same seed and epoch."""
    generator = torch.Generator().manual_seed(derived_seed(recipe.seed, epoch))
    for index in torch.randperm(len(known.images), generator=generator).split(recipe.batch_size):
        images = known.images[index]
        if recipe.augment != "none":
            images = _crop(images, generator)
        if recipe.augment == "crop-flip":
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        yield images, known.labels[index]


def _crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its width, in steps of a pixel; black comes in at the border."""
    count, _, height, width = images.shape
    reach = max(1, width // 8)
    padded = nn.functional.pad(images, (reach,) * 4)
    down, right = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + torch.arange(width)
    cropped = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)
