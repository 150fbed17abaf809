"""One class is normal, the others are not: the protocol of the published table, with its splits and its resizing."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gradiometer import data
from gradiometer.anomaly import AnomalyRecipe, Trained, make_network, mean_gradient, pixels_hash, train
from gradiometer.anomaly.training import CHECKPOINT
from gradiometer.data import Images
from gradiometer.errors import InputError
from gradiometer.models.training import Progress

SIZE = 28
"""Height and width of the published network, in pixels."""

VALIDATION_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Case:
    """Images of one class to learn, and images to tell apart.

    Attributes:
        data: Name of the data set.
        name: Name of the normal class.
        train: Normal images to train on, uint8 (N, K, H, W).
        validation: Normal images to choose the weights by.
        normal: Normal test images.
        abnormal: As many test images of other classes.
    """

    data: str
    name: str
    train: Tensor
    validation: Tensor
    normal: Tensor
    abnormal: Tensor


class Classes:
    """A labelled data set, dealt out one normal class at a time.

    Training images of the class are shuffled and a tenth of them becomes validation images. The test set is all test
    images of the class and the same number of others, at random (release of Kwon et al., ECCV 2020).

    Args:
        root: Folder with the data sets.
        name: Name of the data set, with a training and a test split.
        seed: Of the shuffling.
        limit: At most so many training images, and test images of the class.
    """

    def __init__(self, root: Path, name: str, *, seed: int = 0, limit: int | None = None) -> None:
        self.name, self.seed, self.limit = name, seed, limit
        self._train, self._test = (data.load(name, root=root, split=split) for split in ("train", "test"))
        if self._train.labels is None or self._test.labels is None:
            raise InputError(f"{name} has no labels, and the protocol needs the class of each image")
        names = self._train.classes or tuple(str(label) for label in range(int(self._train.labels.max()) + 1))
        self.names = names

    def case(self, label: int) -> Case:
        """The images of one normal class."""
        generator = np.random.default_rng([self.seed, label])
        known = self._rows(self._train, label, same=True, generator=generator)
        held = max(1, round(VALIDATION_SHARE * len(known)))
        normal = self._rows(self._test, label, same=True, generator=generator)
        others = self._rows(self._test, label, same=False, generator=generator)[: len(normal)]
        return Case(
            data=self.name,
            name=self.names[label],
            train=resized(self._train.images[known[held:]]),
            validation=resized(self._train.images[known[:held]]),
            normal=resized(self._test.images[normal]),
            abnormal=resized(self._test.images[others]),
        )

    def _rows(self, images: Images, label: int, *, same: bool, generator: np.random.Generator) -> Tensor:
        """Rows of one class, or of all others, in random order and not more than the limit."""
        assert images.labels is not None
        rows = np.flatnonzero((images.labels.numpy() == label) == same)
        return torch.from_numpy(generator.permutation(rows)[: self.limit])


def resized(images: Tensor, size: int = SIZE) -> Tensor:
    """Images (N, K, H, W) uint8 at another size, by the Lanczos filter that the release uses; unchanged if they fit."""
    if images.shape[-2:] == (size, size):
        return images
    pixels = images.permute(0, 2, 3, 1).squeeze(-1).numpy()
    parts = [
        np.atleast_3d(np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS)))
        for image in pixels
    ]
    return torch.from_numpy(np.stack(parts)).permute(0, 3, 1, 2).contiguous()


def trained(
    known: Tensor, validation: Tensor, recipe: AnomalyRecipe, cache: Path, progress: Progress | None = None
) -> Trained:
    """Train an auto-encoder, or take it from the cache when the same training was done before.

    Args:
        known: Training images.
        validation: Validation images.
        recipe: The settings.
        cache: Folder with the checkpoints, by hash of settings and images and by number of epochs. A training of fewer
            epochs that is there is continued, which gives the same weights as training anew.
        progress: Called with the figures of each epoch.

    Returns:
        The trained network.
    """
    key = json.dumps([recipe.fixed(), pixels_hash(known), pixels_hash(validation)], sort_keys=True)
    home = cache / sha256(key.encode()).hexdigest()[:16]
    folder = home / str(recipe.epochs)
    if not (folder / CHECKPOINT).exists():
        shorter = [int(path.name) for path in home.glob("[0-9]*") if (path / CHECKPOINT).exists()]
        done = max((epochs for epochs in shorter if epochs < recipe.epochs), default=0)
        if done:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / str(done) / CHECKPOINT, folder / CHECKPOINT)
    return train(known, validation, recipe, folder, progress=progress)


def untrained(known: Tensor, validation: Tensor, recipe: AnomalyRecipe) -> Trained:
    """An auto-encoder with random weights, and the mean gradient of normal images as its reference.

    Args:
        known: The images whose gradients are averaged.
        validation: Not looked at; the record has its hash, like that of a training.
        recipe: Kind of network, constrained layers and seed.

    Returns:
        The network as it would be before its first step.
    """
    network = make_network(recipe.network, known.shape[1], (known.shape[2], known.shape[3]), seed=recipe.seed).eval()
    reference = mean_gradient(network, known.numpy(), recipe.constraint.layers)
    record = {
        "recipe": asdict(recipe),
        "images": {"train": len(known), "validation": len(validation)},
        "sha256": {"train": pixels_hash(known), "validation": pixels_hash(validation)},
        "best_epoch": 0,
        "seconds": 0.0,
        "epochs": [],
    }
    return Trained(network, reference, record)
