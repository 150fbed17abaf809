"""What all detectors of a table read off the model for one set of images, read once and shared."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import torch
from torch import nn

from gradiometer.benchmarks.records import hash_images
from gradiometer.data import Images
from gradiometer.detectors import Purview
from gradiometer.detectors.features import Features
from gradiometer.errors import ModelError
from gradiometer.gradients import Gradiometer, Loss, Objective
from gradiometer.models import weights_hash

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many units of it are done, and how many there are."""

_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Evidence:
    """Readings of one set of N images.

    Attributes:
        features: Penultimate features (N, D) float32: the input of the last linear layer.
        norms: Squared gradient norms (N, T), one column for each parameter tensor.
        activations: Squared norms (N, L) of the input of each linear and convolution layer, from the same pass.
        parameters: Names of the T tensors.
        images_sha256: Hash of the pixels.
        seconds: Time that reading took.
    """

    features: npt.NDArray[np.float32]
    norms: Floats
    activations: Floats
    parameters: tuple[str, ...]
    images_sha256: str
    seconds: float

    def __len__(self) -> int:
        """Number of images N."""
        return len(self.norms)

    def select(self, rows: npt.NDArray[np.int64]) -> Evidence:
        """The readings of some rows."""
        return replace(self, features=self.features[rows], norms=self.norms[rows], activations=self.activations[rows])

    @property
    def statistics(self) -> Floats:
        """What Purview scores (N, L + T), in its order: activations, then gradients."""
        return np.concatenate([self.activations, self.norms], axis=1)


class Reader:
    """Reads a model, a set of images at a time.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        objective: What is backpropagated; what Purview does when None.
        batch_size: Images that go through the model at once.
        memory: Working memory that the gradients may take, such as `"512MiB"`.
        cache: Folder in which readings are kept for the next run, or None.

    Raises:
        ModelError: If the model calls no linear layer.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Objective | Loss | None = None,
        batch_size: int = 128,
        memory: str | int | None = None,
        cache: Path | None = None,
    ) -> None:
        self.model = model
        self.weights_sha256 = weights_hash(model)
        self.batch_size = batch_size
        self.cache = cache
        self.objective: Objective | Loss = Purview(model).objective if objective is None else objective
        self._meter = Gradiometer(model, self.objective, memory=memory)
        self._features = Features(model, None, None)
        self._head: nn.Linear | None = None

    @property
    def head(self) -> nn.Linear:
        """The last linear layer: a model of its own that maps features to logits.

        Detectors on logits and features run on it as they would on the whole model.

        Raises:
            ModelError: Before anything was read.
        """
        if self._head is None:
            raise ModelError("the last linear layer is known once images have been read; call read first")
        return self._head

    def read(self, images: Images, name: str, progress: Progress | None = None) -> Evidence:
        """Read all images.

        Args:
            images: The images.
            name: Of the set, for progress and cache.
            progress: Called after each batch.

        Returns:
            The readings, from the cache when these images were read before with these weights.

        Raises:
            ModelError: If the logits are not those of the last linear layer.
        """
        digest = hash_images(images.images.numpy())
        self._find_head(images)
        path = self._path(name, digest)
        if path is not None and path.is_file():
            found = _load(path, digest)
            if found is not None:
                return found
        started = time.perf_counter()
        parts: list[tuple[npt.NDArray[np.float32], Floats, Floats]] = []
        parameters: tuple[str, ...] = ()
        done = 0
        for batch in images.batches(self.batch_size):
            batch = batch.to(next(self.model.parameters()).device)
            readings = self._meter.squared_norms(batch, activations=True)
            if readings.activations is None:
                raise ModelError("the instrument gave no activations although it was asked for them")
            _, features, _ = self._features(batch)
            parts.append(
                (features.float().cpu().numpy(), readings.values.cpu().numpy(), readings.activations.cpu().numpy())
            )
            parameters = readings.parameters
            done += len(batch)
            if progress is not None:
                progress(f"reading {name}", done, len(images))
        features_all, norms, activations = (np.concatenate(column) for column in zip(*parts, strict=True))
        seconds = time.perf_counter() - started
        evidence = Evidence(features_all, norms, activations, parameters, digest, seconds)
        if path is not None:
            _save(path, evidence)
        return evidence

    def _find_head(self, images: Images) -> None:
        """Find the last linear layer and make sure that nothing comes after it."""
        if self._head is not None:
            return
        sample = next(images.batches(min(4, len(images)))).to(next(self.model.parameters()).device)
        logits, features, name = self._features(sample)
        layer = self.model.get_submodule("" if name == "the model" else name)
        with torch.no_grad():
            same = isinstance(layer, nn.Linear) and torch.allclose(layer(features), logits, rtol=1e-4, atol=1e-5)
        if not same or not isinstance(layer, nn.Linear):
            raise ModelError(
                f"the logits are not the output of the last linear layer ({name}); wrap the model so that they are"
            )
        self._head = layer

    def _path(self, name: str, digest: str) -> Path | None:
        if self.cache is None:
            return None
        key = hashlib.sha256(f"{_SCHEMA} {self.weights_sha256} {digest} {self.objective!r}".encode()).hexdigest()
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.cache / f"{safe}-{key[:16]}.safetensors"


def _save(path: Path, evidence: Evidence) -> None:
    """Write readings beside their final place first, so that an interruption leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"features": evidence.features, "norms": evidence.norms, "activations": evidence.activations}
    metadata = {"parameters": json.dumps(evidence.parameters), "seconds": str(evidence.seconds)}
    temporary = path.with_suffix(".partial")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(contiguous, temporary, metadata=metadata)
    temporary.replace(path)


def _load(path: Path, digest: str) -> Evidence | None:
    """Readings of an earlier run, or nothing when the file is broken: they can be made again."""
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in ("features", "norms", "activations")}
        parameters = tuple(json.loads(metadata["parameters"]))
        return Evidence(**arrays, parameters=parameters, images_sha256=digest, seconds=float(metadata["seconds"]))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
