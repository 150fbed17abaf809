"""Train an auto-encoder of normal images under the gradient constraint: seeded, and resumable at any step.

Everything random is drawn from a generator seeded by (seed, epoch) or (seed, epoch, step), and a checkpoint holds the
place in the epoch, so an interrupted run continues as if it had never stopped, to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from gradiometer import given
from gradiometer.anomaly.constraint import Reference, constrained, cosines
from gradiometer.anomaly.losses import reconstruction_loss
from gradiometer.anomaly.networks import AutoEncoder, make_network
from gradiometer.anomaly.recipe import AnomalyRecipe
from gradiometer.data.hashing import pixels_hash
from gradiometer.errors import ArtefactError, InputError
from gradiometer.models import checkpoint
from gradiometer.models.training import Progress, Steps, as_input, environment
from gradiometer.seeding import derived_seed

CHECKPOINT = "checkpoint.safetensors"
_BEST, _REFERENCE = "best.", "reference."
_LOSSES = ("loss", "reconstruction", "latent", "cosine")


@dataclass(frozen=True, eq=False)
class Trained:
    """An auto-encoder and the directions of its training gradients.

    Attributes:
        network: The auto-encoder with the best weights, in evaluation mode.
        reference: The mean gradient R of each constrained parameter when these weights were reached, by name.
        record: Recipe, figures of every epoch, hashes of the images, and environment.
    """

    network: AutoEncoder
    reference: dict[str, Tensor]
    record: dict[str, Any]


def train(
    known: Tensor,
    validation: Tensor,
    recipe: AnomalyRecipe,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    checkpoint_steps: int = 1000,
    progress: Progress | None = None,
    steps: Steps | None = None,
) -> Trained:
    """Train on normal images, and keep the weights with the lowest criterion on others.

    The criterion is the published one: reconstruction and latent loss minus alpha times the mean cosine, on the
    validation images, batch by batch and with the reference of that moment. (The release looks at every fifth epoch.)

    Args:
        known: Normal images, uint8 (N, K, H, W), at least one batch.
        validation: Other normal images, uint8 (M, K, H, W).
        recipe: The settings.
        folder: Takes `checkpoint.safetensors`, and continues from it when it is there.
        device: Where to train.
        checkpoint_steps: Steps between two checkpoints; there is one at the end of every epoch as well.
        progress: Called with the figures of each epoch, after its checkpoint is written.
        steps: Called after each step with the steps done and the steps of the whole training.

    Returns:
        The trained network with its reference.

    Raises:
        ArtefactError: The checkpoint in the folder belongs to another training, or cannot be read or written.
        InputError: The images do not fit each other or the recipe, or the loss is no longer finite.
    """
    _check(known, validation, recipe)
    given.whole("checkpoint_steps", checkpoint_steps)
    folder.mkdir(parents=True, exist_ok=True)
    network = make_network(recipe.network, known.shape[1], (known.shape[2], known.shape[3]), seed=recipe.seed)
    run = _Run(network.to(device), recipe, folder / CHECKPOINT, pixels_hash(known), pixels_hash(validation))
    count = math.ceil(len(known) / recipe.batch_size)
    run.resume()
    while len(run.history) < recipe.epochs and not run.exhausted():
        order = _order(len(known), recipe, len(run.history))
        started = time.perf_counter()
        for step in range(run.step, count):
            run.take(as_input(known[order[step]], torch.device(device)))
            if steps is not None:
                steps(len(run.history) * count + step + 1, recipe.epochs * count)
            if run.step % checkpoint_steps == 0 and run.step < count:
                run.seconds, started = run.seconds + time.perf_counter() - started, time.perf_counter()
                run.save()
        criterion = run.validate(validation)
        run.seconds += time.perf_counter() - started
        figures = run.close(criterion)
        if progress is not None:
            progress(figures)
    return run.finish({"train": len(known), "validation": len(validation)})


class _Run:
    """The state of a training, and what is done to it.

    Args:
        network: The auto-encoder, on its device.
        recipe: The settings.
        path: The checkpoint.
        images: SHA-256 of the training images.
        validation: SHA-256 of the validation images, whose criteria are compared from epoch to epoch.
    """

    def __init__(self, network: AutoEncoder, recipe: AnomalyRecipe, path: Path, images: str, validation: str) -> None:
        self.network, self.recipe, self.path, self.images, self.validation = network, recipe, path, images, validation
        self.optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate)
        self.parameters = constrained(network, recipe.constraint.layers)
        self.reference = Reference(self.parameters, recipe.constraint)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.step = 0
        self.sums = dict.fromkeys(_LOSSES, 0.0)
        self.seconds = 0.0
        self.seen = 0

    def take(self, images: Tensor) -> None:
        """One step of the optimiser on a batch of images in [0, 1]."""
        self.network.train()
        reconstruction, latent = self._losses(images, self._noise())
        total = reconstruction + self.recipe.latent_weight * latent
        alpha, cosine = self.recipe.constraint.alpha, torch.zeros(())
        if alpha and self.reference.taken:
            # Only the decoder is differentiated twice: the encoder is not on the way to the constrained weights.
            gradients = torch.autograd.grad(reconstruction, list(self.parameters.values()), create_graph=True)
            cosine = self._cosine(gradients)
            total = total - alpha * cosine
        if not math.isfinite(value := total.item()):
            raise InputError(
                f"the loss is {value} in epoch {len(self.history) + 1}; lower learning_rate "
                f"(now {self.recipe.learning_rate}) or alpha (now {alpha})"
            )
        self.optimizer.zero_grad()
        total.backward()
        found = {name: parameter.grad for name, parameter in self.parameters.items() if parameter.grad is not None}
        if not alpha and self.reference.taken:
            cosine = self._cosine(list(found.values()))
        self.reference.update(found)
        self.optimizer.step()
        self.step += 1
        self.seen += len(images)
        for name, loss in zip(_LOSSES, (total, reconstruction, latent, cosine), strict=True):
            self.sums[name] += loss.item() * len(images)

    def validate(self, images: Tensor) -> dict[str, float]:
        """The criterion and its parts on validation images, uint8."""
        self.network.eval()
        sums = dict.fromkeys(_LOSSES, 0.0)
        alpha, device = self.recipe.constraint.alpha, next(self.network.parameters()).device
        for part in images.split(self.recipe.batch_size):
            reconstruction, latent = self._losses(as_input(part, device), None)
            gradients = torch.autograd.grad(reconstruction, list(self.parameters.values()))
            cosine = self._cosine(gradients)
            total = reconstruction + self.recipe.latent_weight * latent - alpha * cosine
            for name, loss in zip(_LOSSES, (total, reconstruction, latent, cosine), strict=True):
                sums[name] += loss.item() * len(part)
        if not math.isfinite(sums["loss"]):
            raise InputError(
                f"the loss on the validation images is {sums['loss']}; are their pixels and weights finite?"
            )
        return {f"validation_{name}": value / len(images) for name, value in sums.items()}

    def close(self, criterion: Mapping[str, float]) -> dict[str, float]:
        """End an epoch: its figures, the best weights so far, and a checkpoint."""
        means = {name: value / self.seen for name, value in self.sums.items()}
        lowest = min((figures["validation_loss"] for figures in self.history), default=math.inf)
        figures = {"epoch": len(self.history) + 1, **means, **criterion, "seconds": self.seconds}
        self.history.append(figures)
        self.step, self.seen, self.seconds, self.sums = 0, 0, 0.0, dict.fromkeys(_LOSSES, 0.0)
        if figures["validation_loss"] < lowest:
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
            self.best |= {f"{_REFERENCE}{name}": mean.clone() for name, mean in self.reference.means.items()}
        self.save()
        return figures

    def exhausted(self) -> bool:
        """Whether the criterion has not improved for as many epochs as the recipe is patient."""
        values = [figures["validation_loss"] for figures in self.history]
        return bool(self.recipe.patience and values) and len(values) - 1 - _lowest(values) >= self.recipe.patience

    def save(self) -> None:
        """Write the checkpoint."""
        tensors = {f"{_BEST}{name}": value for name, value in self.best.items()}
        tensors |= {f"{_REFERENCE}{name}": mean for name, mean in self.reference.means.items()}
        notes = {
            "step": self.step,
            "seen": self.seen,
            "sums": self.sums,
            "seconds": self.seconds,
            "reference_steps": self.reference.steps,
            "validation": self.validation,
        }
        done = checkpoint.Reached(self.history, tensors, notes)
        checkpoint.save(self.path, self.network, self.optimizer, self._settings(), self.images, done)

    def resume(self) -> None:
        """Continue from the checkpoint, when there is one."""
        if not self.path.exists():
            return
        found = checkpoint.resume(self.path, self.network, self.optimizer, self._settings(), self.images)
        # Checkpoints of before do not say which they were.
        if found.notes.get("validation", self.validation) != self.validation:
            raise ArtefactError(
                f"{self.path} was trained with other validation images, whose criteria cannot be compared; give the "
                "same to continue, or another folder to start again"
            )
        device = next(self.network.parameters()).device
        means = {name.removeprefix(_REFERENCE): value for name, value in found.tensors.items() if _is_reference(name)}
        missing = sorted({*self.parameters} - {*means})
        if missing or "reference_steps" not in found.notes:
            raise ArtefactError(
                f"{self.path} lacks the reference gradient of {(missing or ['steps'])[0]!r}, without which "
                "the constraint means nothing; delete it to start again"
            )
        self.history = found.history
        self.best = {
            name.removeprefix(_BEST): value.to(device) for name, value in found.tensors.items() if _is_best(name)
        }
        self.reference.restore(means, int(found.notes["reference_steps"]))
        self.step, self.seen = int(found.notes["step"]), int(found.notes["seen"])
        self.sums, self.seconds = dict(found.notes["sums"]), float(found.notes["seconds"])

    def finish(self, counts: Mapping[str, int]) -> Trained:
        """The network with its best weights, and the record."""
        weights = {name: value for name, value in self.best.items() if not _is_reference(name)}
        self.network.load_state_dict(weights)
        reference = {name: self.best[f"{_REFERENCE}{name}"].float() for name in self.parameters}
        record = {
            "recipe": asdict(self.recipe),
            "images": dict(counts),
            "sha256": {"train": self.images, "validation": self.validation},
            "environment": environment(self.network),
            "best_epoch": 1 + _lowest([figures["validation_loss"] for figures in self.history]),
            "seconds": sum(figures["seconds"] for figures in self.history),
            "epochs": self.history,
        }
        return Trained(self.network.eval(), reference, record)

    def _settings(self) -> dict[str, Any]:
        settings = self.recipe.fixed()
        layers = self.recipe.constraint.layers
        settings["constraint"]["layers"] = layers if isinstance(layers, str) else list(layers)
        return settings

    def _losses(self, images: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Mean reconstruction loss of a batch, and its mean latent loss divided by the values in an image."""
        reconstructions, latent = self.network.passed(images, generator)
        return reconstruction_loss(images, reconstructions).mean(), latent.mean() / images[0].numel()

    def _cosine(self, gradients: Any) -> Tensor:
        """Mean cosine with the reference over the constrained parameters."""
        return cosines(dict(zip(self.parameters, gradients, strict=True)), self.reference.directions()).mean()

    def _noise(self) -> Generator:
        """The generator of this step's latent noise."""
        seed = derived_seed(self.recipe.seed, len(self.history), self.step)
        return Generator(next(self.network.parameters()).device).manual_seed(seed)


def _order(count: int, recipe: AnomalyRecipe, epoch: int) -> tuple[Tensor, ...]:
    """The images of each batch of an epoch."""
    generator = Generator().manual_seed(derived_seed(recipe.seed, epoch))
    shuffled: tuple[Tensor, ...] = torch.randperm(count, generator=generator).split(recipe.batch_size)
    return shuffled


def _lowest(values: list[float]) -> int:
    """Position of the first lowest value."""
    return values.index(min(values))


def _is_best(name: str) -> bool:
    return name.startswith(_BEST)


def _is_reference(name: str) -> bool:
    return name.startswith(_REFERENCE)


def _check(known: Tensor, validation: Tensor, recipe: AnomalyRecipe) -> None:
    for role, images in (("training", known), ("validation", validation)):
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise InputError(
                f"{role} images must be uint8 (N, channels, height, width) with N of one or more, got {images.dtype} "
                f"{tuple(images.shape)}"
            )
    if known.shape[1:] != validation.shape[1:]:
        raise InputError(
            f"training images are {tuple(known.shape[1:])} and validation images {tuple(validation.shape[1:])} "
            "(channels, height, width); make them alike"
        )
    if len(known) < recipe.batch_size:
        raise InputError(
            f"{len(known)} training images are less than one batch of {recipe.batch_size}; give more, or lower "
            "batch_size"
        )
