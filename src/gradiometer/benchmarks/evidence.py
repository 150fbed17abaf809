"""What all detectors of a table read off the model for one set of images, read once and shared."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
from torch import Tensor, nn

from gradiometer.data import Images
from gradiometer.data.hashing import pixels_hash
from gradiometer.detectors import ODIN, Detector, Guard, Purview
from gradiometer.detectors.checks import forward
from gradiometer.detectors.guard import STEP
from gradiometer.detectors.lastlayer import LastLayer
from gradiometer.detectors.layers import spread
from gradiometer.detectors.norms import channel_statistics, largest_probabilities
from gradiometer.detectors.smoothing import smoothed
from gradiometer.detectors.stability import changes, shaken
from gradiometer.errors import ModelError
from gradiometer.files import replaced
from gradiometer.gradients import Gradiometer, Loss, Objective, Readings
from gradiometer.models import weights_hash

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many units of it are done, and how many there are."""

Direct = Callable[[Tensor], Tensor]
"""Maps a batch of images to scores (B,) or (B, L)."""

INPUT_STEP = "Mahalanobis with input step"
"""Name of the direct reading of distances (N, L) after an input step for each layer."""

PSEUDO_LABEL = "Pseudo-label norms"
"""Name of the direct reading of squared gradient norms (N, T) under the predicted label, from a pass of their own."""

_SCHEMA = 5


@dataclass(frozen=True, eq=False)
class Evidence:
    """Readings of one set of N images.

    Attributes:
        logits: (N, C) float32.
        layers: Mean over positions (N, channels) float32 of the input of some layers, in the order of the network; the
            last one is the last linear layer, and its input are the penultimate features.
        shares: Share of positions (N, channels) float32 at which each channel is above zero, of those of these layers
            whose input has positions.
        norms: Squared gradient norms (N, T), one column for each parameter tensor.
        activations: Squared norms (N, L) of the input of each linear and convolution layer, from the same pass.
        changes: What the small step of `Guard` changes (N, C + layers): logits, and layers.
        smoothed: (N, C) float32, the logits after a median filter.
        parameters: Names of the T tensors.
        images_sha256: Hash of the pixels.
        seconds: Time that reading took.
        direct: Scores (N,) of detectors that need the images themselves, by name; distances (N, L) for `INPUT_STEP`;
            squared norms (N, T) for `PSEUDO_LABEL`.
    """

    logits: npt.NDArray[np.float32]
    layers: tuple[npt.NDArray[np.float32], ...]
    shares: tuple[npt.NDArray[np.float32], ...]
    norms: Floats
    activations: Floats
    changes: Floats
    smoothed: npt.NDArray[np.float32]
    parameters: tuple[str, ...]
    images_sha256: str
    seconds: float
    direct: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images N."""
        return len(self.norms)

    def select(self, rows: npt.NDArray[np.int64]) -> Evidence:
        """The readings of some rows."""
        return replace(
            self,
            logits=self.logits[rows],
            layers=tuple(values[rows] for values in self.layers),
            shares=tuple(values[rows] for values in self.shares),
            norms=self.norms[rows],
            activations=self.activations[rows],
            changes=self.changes[rows],
            smoothed=self.smoothed[rows],
            direct={name: scores[rows] for name, scores in self.direct.items()},
        )

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """Penultimate features (N, D): the input of the last linear layer."""
        return self.layers[-1]

    @property
    def statistics(self) -> Floats:
        """What Purview scores (N, L + T), in its order: activations, then gradients."""
        return np.concatenate([self.activations, self.norms], axis=1)

    @property
    def channels(self) -> Floats:
        """What Purview reads of single channels of these layers, and of the logits (N, F)."""
        return np.concatenate([channel_statistics(self.layers, self.shares), self.probabilities], axis=1)

    @property
    def probabilities(self) -> Floats:
        """The largest softmax probabilities (N, at most 10), in descending order."""
        return largest_probabilities(self.logits)

    @property
    def predicted(self) -> Floats:
        """Which class is predicted (N, C): 1 for it, 0 for the others."""
        classes: Floats = np.eye(self.logits.shape[1])[self.logits.argmax(1)]
        return classes


def join(parts: Sequence[Evidence]) -> Evidence:
    """Readings of several sets by one reader, one after the other.

    Args:
        parts: At least one.
    """
    first = parts[0]
    return replace(
        first,
        logits=np.concatenate([part.logits for part in parts]),
        layers=tuple(np.concatenate(values) for values in zip(*(part.layers for part in parts), strict=True)),
        shares=tuple(np.concatenate(values) for values in zip(*(part.shares for part in parts), strict=True)),
        norms=np.concatenate([part.norms for part in parts]),
        activations=np.concatenate([part.activations for part in parts]),
        changes=np.concatenate([part.changes for part in parts]),
        smoothed=np.concatenate([part.smoothed for part in parts]),
        images_sha256=hashlib.sha256("".join(part.images_sha256 for part in parts).encode()).hexdigest(),
        seconds=sum(part.seconds for part in parts),
        direct={name: np.concatenate([part.direct[name] for part in parts]) for name in first.direct},
    )


class Reader:
    """Reads a model, a set of images at a time.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        objective: What is backpropagated; what Purview does when None.
        batch_size: Images that go through the model at once.
        memory: Working memory that the gradients may take, such as `"512MiB"`.
        cache: Folder in which readings are kept for the next run, or None.
        direct: What needs the images themselves, by name: maps a batch to scores (B,) or (B, L). ODIN when None.
        basis: What of it was fitted on, for the cache, or empty.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        objective: Objective | Loss | None = None,
        batch_size: int = 128,
        memory: str | int | None = None,
        cache: Path | None = None,
        direct: Mapping[str, Detector | Direct] | None = None,
        basis: str = "",
    ) -> None:
        self.model = model
        self.weights_sha256 = weights_hash(model)
        self.batch_size = batch_size
        self.cache = cache
        self.objective: Objective | Loss = Purview(model).objective if objective is None else objective
        self._meter = Gradiometer(model, self.objective, memory=memory)
        self._guard = Guard(model)
        chosen = {"ODIN": ODIN(model, batch_size=batch_size)} if direct is None else direct
        self.direct = {name: d.predict if isinstance(d, Detector) else d for name, d in chosen.items()}
        self.basis = basis
        self._last = LastLayer(model, None)
        self._layers: tuple[str, ...] = ()

    @property
    def direct_key(self) -> str:
        """What the direct readings depend on besides model and images, for caches."""
        return f"{sorted((name, _described(score)) for name, score in self.direct.items())}{self.basis}"

    @property
    def head(self) -> nn.Linear:
        """The last linear layer: a model of its own that maps features to logits.

        Detectors on logits and features run on it as they would on the whole model.

        Raises:
            ModelError: Before anything was read.
        """
        return self._last.layer

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
        digest = pixels_hash(images.images)
        self._find_layers(images)
        path = self._path(name, digest)
        if path is not None and path.is_file():
            found = _load(path, digest)
            if found is not None:
                return found
        started = time.perf_counter()
        parts: list[dict[str, npt.NDArray[np.generic]]] = []
        parameters: tuple[str, ...] = ()
        done = 0
        for batch in images.batches(self.batch_size):
            batch = batch.to(next(self.model.parameters()).device)
            readings = self._meter.squared_norms(batch, activations=True, means=self._layers, shares=self._layers)
            if readings.activations is None:
                raise ModelError("the instrument gave no activations although it was asked for them")
            part = {"logits": readings.outputs.float(), "norms": readings.values, "activations": readings.activations}
            for kind, of in (("layer", readings.means), ("share", readings.shares)):
                part |= {f"{kind}.{at}": of[layer].float() for at, layer in enumerate(self._layers) if layer in of}
            part |= {f"direct.{name}": score(batch) for name, score in self.direct.items()}
            arrays = {name: tensor.cpu().numpy() for name, tensor in part.items()}
            parts.append(arrays | {"changes": self._changes(batch, readings), "smoothed": self._smoothed(batch)})
            parameters = readings.parameters
            done += len(batch)
            if progress is not None:
                progress(f"reading {name}", done, len(images))
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        seconds = time.perf_counter() - started
        if path is not None:
            _save(path, arrays, parameters, seconds)
        return _evidence(arrays, parameters, digest, seconds)

    def _changes(self, batch: Tensor, readings: Readings) -> Floats:
        """What the small step of `Guard` changes, with the signs of its default seed, (B, C + layers)."""
        moved = shaken(batch, STEP, self._guard.seed)
        if moved is None:
            raise ModelError("a step needs images in floating point")
        there = self._meter.activation_norms(moved, means=self._layers)
        before, after = (
            [found.means[layer].cpu().double().numpy() for layer in self._layers] for found in (readings, there)
        )
        logits, moved_logits = (found.outputs.cpu().double().numpy() for found in (readings, there))
        return changes(logits, before, moved_logits, after)

    def _smoothed(self, batch: Tensor) -> npt.NDArray[np.float32]:
        """The logits of smoothed images (B, C)."""
        calm = smoothed(batch)
        if calm is None:
            raise ModelError("smoothing needs images (B, C, H, W) in floating point")
        return forward(self.model, calm).float().cpu().numpy()

    def _find_layers(self, images: Images) -> None:
        """Choose the layers that Guard looks at, and make sure that the last of them gives the logits."""
        if self._layers:
            return
        sample = next(images.batches(min(4, len(images)))).to(next(self.model.parameters()).device)
        _, _, name = self._last(sample)
        layers = spread(self._meter.layers(sample), self._guard.layers)
        if layers[-1] != ("weight" if name == "the model" else f"{name}.weight"):
            raise ModelError(f"the layer {layers[-1]} is used after the last linear layer ({name}); wrap the model")
        self._layers = layers

    def _path(self, name: str, digest: str) -> Path | None:
        if self.cache is None:
            return None
        what = f"{_SCHEMA} {self.weights_sha256} {digest} {self.objective!r} {self.direct_key}"
        key = hashlib.sha256(what.encode()).hexdigest()
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.cache / f"{safe}-{key[:16]}.safetensors"


def _described(score: Direct) -> str:
    """The detector behind a method and its parameters, or nothing for a function; how it is batched does not count."""
    detector = getattr(score, "__self__", None)
    if not isinstance(detector, Detector):
        return ""
    parameters = {name: value for name, value in detector._parameters().items() if name != "batch_size"}
    return f"{type(detector).__name__} {json.dumps(parameters, sort_keys=True)}"


def _evidence(
    arrays: Mapping[str, npt.NDArray[Any]], parameters: tuple[str, ...], digest: str, seconds: float
) -> Evidence:
    """Readings from arrays by name."""
    return Evidence(
        logits=arrays["logits"],
        layers=_in_order(arrays, "layer."),
        shares=_in_order(arrays, "share."),
        norms=arrays["norms"],
        activations=arrays["activations"],
        changes=arrays["changes"],
        smoothed=arrays["smoothed"],
        parameters=parameters,
        images_sha256=digest,
        seconds=seconds,
        direct={name.removeprefix("direct."): a for name, a in arrays.items() if name.startswith("direct.")},
    )


def _in_order(arrays: Mapping[str, npt.NDArray[Any]], start: str) -> tuple[npt.NDArray[Any], ...]:
    """The arrays whose names begin so and end in a number, by that number."""
    return tuple(arrays[name] for name in sorted(filter(lambda n: n.startswith(start), arrays), key=_number))


def _number(name: str) -> int:
    return int(name.rsplit(".", 1)[1])


def _save(
    path: Path, arrays: Mapping[str, npt.NDArray[np.generic]], parameters: tuple[str, ...], seconds: float
) -> None:
    """Write readings in one step, so that an interruption leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"parameters": json.dumps(parameters), "seconds": str(seconds)}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replaced(path) as new:
        safetensors.numpy.save_file(contiguous, new, metadata=metadata)


def _load(path: Path, digest: str) -> Evidence | None:
    """Readings of an earlier run, or nothing when the file is broken: they can be made again."""
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _evidence(arrays, tuple(json.loads(metadata["parameters"])), digest, float(metadata["seconds"]))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError):
        return None
