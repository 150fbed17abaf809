"""What the candidates are made of: everything that is read off the model for a set of images, kept on disk."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer import Gradiometer
from gradiometer.challenges.attacks import predict
from gradiometer.data import Images
from gradiometer.data.hashing import pixels_hash
from gradiometer.detectors import Guard
from gradiometer.detectors.layers import spread
from gradiometer.gradients import ConfoundingLabel, PseudoLabel
from gradiometer.models import weights_hash

Arrays = dict[str, npt.NDArray[np.float64]]
Here = Mapping[str, Tensor]
"""What the parts before have read for the same batch."""

WIDTH = 64
"""Numbers that stand for the direction of a layer's gradient, and for the second moments of its input."""

STEP = 2 / 255
"""Size of a step of the input."""

SHAKES = 4
"""Draws of random signs beside that step; with them one more member takes about as long as with the step."""

DRAWS = 4
"""Networks with noise on their weights."""

NOISE = 0.02
"""Deviation of that noise, as a share of the root mean square of each tensor."""

BANDS = 6
"""Rings of spatial frequency."""

_STAGES = 2
"""Top-level modules, from the end, whose Gram matrices are read: a backward pass for each class reaches no further."""

_SCHEMA = 2
_BATCH = 50
_PORTION = 250


Part = Callable[["Readings", Tensor, Here], dict[str, Tensor]]
"""Reads one thing after the other off the model for a batch."""


class Readings:
    """Reads sets of images once.

    Args:
        model: Classifier in eval mode.
        cache: Folder for what was read.
        said: Told what is being read.
    """

    def __init__(self, model: nn.Module, cache: Path, said: Callable[[str], None]) -> None:
        self.model = model
        self.cache = cache
        self.said = said
        self.weights_sha256 = weights_hash(model)
        self.norms = Gradiometer(model, ConfoundingLabel(reading="softmax"))
        tops = tuple(dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters()))[-_STAGES:]
        self.last = Gradiometer(model, parameters=[f"{top}.*" for top in tops])
        self.matrices = tuple(name for name, p in model.named_parameters() if p.ndim > 1)
        self.pseudo = Gradiometer(model, PseudoLabel(), self.matrices)
        self.layers: tuple[str, ...] = ()
        self.noisy = [_noisy(model, seed) for seed in range(DRAWS)]
        self.projections = {
            name: _normal(parameter.numel(), WIDTH, seed=seed)
            for seed, (name, parameter) in enumerate(model.named_parameters())
            if name in self.matrices
        }
        self.means: Mapping[str, Tensor] = {}

    def learn(self, known: Images) -> None:
        """Remember the mean direction of the gradients of known images of each predicted class."""
        path = self._path("class means", known)
        if not path.is_file():
            self.said("class means")
            labels = torch.cat([predict(self.model, batch) for batch in known.batches(_BATCH)])
            count = int(labels.max()) + 1
            sums = {name: torch.zeros(count, p.numel()) for name, p in self.model.named_parameters()}
            for start, batch in zip(range(0, len(known), _BATCH), known.batches(_BATCH), strict=True):
                for name, directions in self._directions(batch).items():
                    sums[name].index_add_(0, labels[start : start + _BATCH], directions)
            means = {name: F.normalize(sums[name]).numpy() for name in self.matrices}
            _save(path, means)
        self.means = {name: torch.from_numpy(a) for name, a in safetensors.numpy.load_file(path).items()}

    def read(self, images: Images, name: str, *, every: bool = True) -> Arrays:
        """Readings of a set (N, ...) by name, from disk where they were read before.

        Args:
            images: The set.
            name: Its name.
            every: Whether all readings are taken, or those alone that the candidates to be confirmed are made of.
        """
        parts_of = (_forward, _grams, _directed, _moments, _moved, _shaken) if every else (_forward, _moved, _shaken)
        starts = range(0, len(images), _PORTION)
        parts = [
            self._read(images.select(np.arange(start, min(start + _PORTION, len(images)))), name, parts_of)
            for start in starts
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _read(self, images: Images, name: str, parts_of: Sequence[Part]) -> Arrays:
        found: Arrays = {}
        for part in parts_of:
            path = self._path(part.__name__, images)
            if not path.is_file():
                self.said(f"{name}: {part.__name__.strip('_')}")
                rows = []
                for start, batch in zip(range(0, len(images), _BATCH), images.batches(_BATCH), strict=True):
                    here = {key: torch.from_numpy(array[start : start + _BATCH]) for key, array in found.items()}
                    rows.append(part(self, batch, here))
                _save(path, {key: torch.cat([row[key] for row in rows]).double().numpy() for key in rows[0]})
            found |= safetensors.numpy.load_file(path)
        return found

    def spread(self, batch: Tensor) -> tuple[str, ...]:
        """The layers that Guard looks at."""
        if not self.layers:
            self.layers = spread(self.norms.layers(batch[:1]), Guard(self.model).layers)
        return self.layers

    def _directions(self, batch: Tensor) -> dict[str, Tensor]:
        """Unit directions (B, size) of the gradients for the predicted class."""
        return {name: F.normalize(g.flatten(1).double()).float() for name, g in self.pseudo.gradients(batch).items()}

    def _path(self, part: str, images: Images) -> Path:
        what = f"{_SCHEMA} {self.weights_sha256} {pixels_hash(images.images)} {part}"
        return self.cache / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.safetensors"


def _forward(readings: Readings, batch: Tensor, _: Here) -> dict[str, Tensor]:
    """What Guard reads with gradients: logits, pooled layers, active channels, norms of activations and gradients."""
    layers = readings.spread(batch)
    found = readings.norms.squared_norms(batch, activations=True, means=layers, shares=layers)
    assert found.activations is not None
    pooled = {f"layer {place}": found.means[layer] for place, layer in enumerate(layers)}
    active = {f"share {place}": found.shares[layer] for place, layer in enumerate(layers) if layer in found.shares}
    return {"logits": found.outputs, "norms": found.values, "activations": found.activations, **pooled, **active}


def _grams(readings: Readings, batch: Tensor, _: Here) -> dict[str, Tensor]:
    """Gram matrices of the gradients of the logits in the last stages, as a few numbers each."""
    grams = readings.last.class_grams(batch)
    count = len(grams.classes)
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    order = grams.outputs.argsort(1, descending=True)
    first, second = order[:, 0], order[:, 1]
    contrast = (F.one_hot(first, count) - F.one_hot(second, count)).double()
    stages = torch.stack([grams.values[:, rows].sum(1) for rows in _stages(grams.parameters)], 1)
    slopes = grams.outputs.double().softmax(1).unsqueeze(1) - torch.eye(count, dtype=torch.float64)[order]
    return {
        "traces": torch.einsum("btcd,cd->bt", grams.values, centre).clamp(min=0),
        "pairs": torch.einsum("bc,btcd,bd->bt", contrast, grams.values, contrast).clamp(min=0),
        "eigenvalues": torch.linalg.eigvalsh(centre @ stages @ centre)[..., 1:].clamp(min=0).flatten(1),
        "contrasts": torch.einsum("brc,bscd,brd->bsr", slopes, stages, slopes).clamp(min=0).flatten(1),
        "margin": grams.outputs.double().gather(1, order[:, :2]).diff(dim=1).neg(),
    }


def _directed(readings: Readings, batch: Tensor, _: Here) -> dict[str, Tensor]:
    """Directions of the gradients for the predicted class: cosines to the class means, and a projection at random."""
    directions = readings._directions(batch)
    cosines = [directions[name] @ readings.means[name].T for name in readings.matrices]
    return {
        "cosines": torch.stack(cosines, 1),
        "directions": torch.stack([directions[name] @ readings.projections[name] for name in readings.matrices], 1),
    }


def _moments(readings: Readings, batch: Tensor, _: Here) -> dict[str, Tensor]:
    """Second moments of the patches that each layer sees, projected at random: the forward-only side of a direction.

    A random rank-one matrix of each second moment `sum a a'` is `sum (u'a)(v'a)`.
    """
    found: dict[str, Tensor] = {}

    def watch(name: str, seed: int, layer: nn.Conv2d | nn.Linear) -> object:
        size = layer.weight[0].numel()
        left, right = _normal(size, 2 * WIDTH, seed=1000 + seed).T.split(WIDTH)

        def hook(__: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            (a,) = inputs
            if isinstance(layer, nn.Linear):
                found[name] = (a @ left.T) * (a @ right.T)
                return
            shape = (WIDTH, *layer.weight.shape[1:])
            sides = [F.conv2d(a, r.reshape(shape), None, layer.stride, layer.padding) for r in (left, right)]
            found[name] = (sides[0] * sides[1]).sum((2, 3))

        return layer.register_forward_pre_hook(hook)

    layers = [(n, m) for n, m in readings.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [watch(name, seed, layer) for seed, (name, layer) in enumerate(layers)]
    try:
        with torch.no_grad():
            readings.model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {"moments": F.normalize(torch.stack([found[name] for name, _ in layers], 1), dim=-1)}


def _moved(readings: Readings, batch: Tensor, here: Here) -> dict[str, Tensor]:
    """Readings after a step towards the second class, after random signs as large, and with noise on the weights.

    Beside them the gradient of the margin with respect to the image, which is the direction of that step.
    """
    pixels = batch.clone().requires_grad_()
    top = readings.model(pixels).topk(2).values
    (slope,) = torch.autograd.grad((top[:, 0] - top[:, 1]).sum(), pixels)
    signs = torch.randint(2, batch.shape[1:], generator=torch.Generator().manual_seed(0)) * 2 - 1
    stepped, shaken = ((batch - STEP * way).clamp(0, 1) for way in (slope.sign(), signs))
    layers = readings.spread(batch)
    order = here["logits"].argsort(1, descending=True)
    found = {
        "slope": slope.double().flatten(1).norm(dim=1, keepdim=True),
        "gradient bands": _rings(slope),
        "image bands": _rings(batch - batch.mean((2, 3), keepdim=True)),
    }
    step = readings.norms.squared_norms(stepped, activations=True, means=layers)
    shake = readings.norms.activation_norms(shaken, means=layers)
    assert step.activations is not None
    for name, there, activations in (("step", step, step.activations), ("shake", shake, shake.values)):
        found[f"{name} logits"] = (there.outputs - here["logits"]).gather(1, order)
        moved = [_apart(here[f"layer {place}"], there.means[layer]) for place, layer in enumerate(layers)]
        found[f"{name} layers"] = torch.stack(moved, 1)
        found[f"{name} activations"] = activations / here["activations"]
    found["step norms"] = step.values / here["norms"].clamp(min=torch.finfo(torch.float64).tiny)
    with torch.no_grad():
        drawn = torch.stack([model(batch) for model in readings.noisy]) - here["logits"]
    found["weight noise"] = drawn.double().square().mean(0).gather(1, order)
    return found


def _shaken(readings: Readings, batch: Tensor, here: Here) -> dict[str, Tensor]:
    """Changes under several draws of random signs as large as the step, forward-only and for about as much time."""
    layers = readings.spread(batch)
    order = here["logits"].argsort(1, descending=True)
    logits, moved = [], []
    for seed in range(1, SHAKES + 1):
        signs = torch.randint(2, batch.shape[1:], generator=torch.Generator().manual_seed(seed)) * 2 - 1
        there = readings.norms.activation_norms((batch + STEP * signs).clamp(0, 1), means=layers)
        logits.append((there.outputs - here["logits"]).gather(1, order))
        moved.append(
            torch.stack([_apart(here[f"layer {place}"], there.means[layer]) for place, layer in enumerate(layers)], 1)
        )
    return {"shakes logits": torch.stack(logits, 1), "shakes layers": torch.stack(moved, 1)}


def _rings(images: Tensor) -> Tensor:
    energy = torch.fft.rfft2(images.double()).abs().square().sum(1)
    height, width = images.shape[-2:]
    radius = (torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()).sqrt()
    ring = (radius / 0.5 * BANDS).long().clamp(max=BANDS - 1)
    return torch.stack([energy[:, ring == number].sum(1) for number in range(BANDS)], 1)


def _apart(here: Tensor, there: Tensor) -> Tensor:
    return (F.normalize(here.double()) - F.normalize(there.double())).square().sum(1)


def _stages(parameters: tuple[str, ...]) -> list[list[int]]:
    """Positions of the parameters of each top-level module."""
    tops = [name.split(".")[0] for name in parameters]
    return [[place for place, top in enumerate(tops) if top == stage] for stage in dict.fromkeys(tops)]


def _noisy(model: nn.Module, seed: int) -> nn.Module:
    noisy = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in noisy.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * NOISE * parameter.square().mean().sqrt())
    return noisy


def _normal(rows: int, columns: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) / columns**0.5


def _save(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, partial)
    partial.replace(path)
