"""Candidates for one more member of Guard, each beside the same density on what the forward pass shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.detectors import NeighbourDensity
from gradiometer.detectors.gaussians import ClassGaussians
from gradiometer.detectors.members import LayerDistance, Views
from gradiometer.detectors.tails import Tail

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arrays = Mapping[str, Floats]
Select = Callable[[Arrays], Floats]
Surprise = Callable[[Arrays], Floats]
Score = Callable[[Floats, Integers], Floats]

NEIGHBOURS = 10
STEP = "change under a step"
"""Name of the candidate whose control, the change under random signs, is the best forward-only member on the design
half."""


@dataclass(frozen=True)
class Candidate:
    """One more member.

    Attributes:
        name: What it looks at.
        density: How: `neighbours` of standardised logs; `class`, the Gaussian of the predicted class; `layers`, the
            layer that is farthest from any class mean, on unit vectors; `small`, the value itself, small = strange.
        gradient: What it takes from the readings of N images: (N, F), or (N, L, F) for `layers`.
        control: The same without gradients.
    """

    name: str
    density: str
    gradient: Select
    control: Select


def _column(name: str) -> Select:
    return lambda arrays: arrays[name]


def _log_ratios(name: str) -> Select:
    """Logs without their mean over the columns: how a sum is divided, not how large it is."""

    def select(arrays: Arrays) -> Floats:
        logs = _logs(arrays[name])
        ratios: Floats = logs - logs.mean(1, keepdims=True)
        return ratios

    return select


def _joined(*selects: Select) -> Select:
    return lambda arrays: np.concatenate([select(arrays) for select in selects], axis=1)


def _logged(name: str) -> Select:
    return lambda arrays: _logs(arrays[name])


def _margin_per(name: str) -> Select:
    """The margin between the first two logits, divided by the norm of its gradient."""

    def select(arrays: Arrays) -> Floats:
        squares = arrays[name].sum(1, keepdims=True) if name == "pairs" else np.square(arrays[name])
        distances: Floats = arrays["margin"] / np.sqrt(np.maximum(squares, 1e-300))
        return distances

    return select


def _own_class(name: str) -> Select:
    """Cosines (N, L) to the mean of the predicted class, and the largest of those to the others."""

    def select(arrays: Arrays) -> Floats:
        cosines, classes = arrays[name], predictions(arrays)
        rows = np.arange(len(cosines))
        own = cosines[rows, :, classes]
        others = cosines.copy()
        others[rows, :, classes] = -np.inf
        return np.concatenate([own, others.max(2)], axis=1)

    return select


def _nearest_class(arrays: Arrays) -> Floats:
    """Largest mean cosine over all layers to the mean gradient of a class."""
    nearest: Floats = arrays["cosines"].mean(1).max(1, keepdims=True)
    return nearest


def _some_layers(name: str, part: slice) -> Select:
    return lambda arrays: arrays[name][:, part]


def _nearest_feature(arrays: Arrays) -> Floats:
    """Largest cosine of the penultimate features to their class means (fitted beside the readings)."""
    nearest: Floats = arrays["feature cosines"].max(1, keepdims=True)
    return nearest


_stepped: Select = _joined(_column("step logits"), _logged("step layers"))


def _averaged(arrays: Arrays) -> Floats:
    """The same change under random signs instead of a step, averaged over the draws."""
    logits, layers = (arrays[f"shakes {name}"].mean(1) for name in ("logits", "layers"))
    return np.concatenate([logits, _logs(layers)], axis=1)


def _every_draw(arrays: Arrays) -> Floats:
    """The same, one draw beside the other."""
    logits, layers = (arrays[f"shakes {name}"].reshape(len(arrays["logits"]), -1) for name in ("logits", "layers"))
    return np.concatenate([logits, _logs(layers)], axis=1)


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("gradient norms", "neighbours", _column("norms"), _column("activations")),
    Candidate("norms divided among layers, by class", "class", _log_ratios("norms"), _log_ratios("activations")),
    Candidate("Gram matrices: traces", "neighbours", _column("traces"), _column("weight noise")),
    Candidate("Gram matrices: eigenvalues", "neighbours", _column("eigenvalues"), _column("weight noise")),
    Candidate("Gram matrices: shares of eigenvalues, by class", "class", _log_ratios("eigenvalues"), _column("logits")),
    Candidate("norms for every label, by rank", "neighbours", _column("contrasts"), _column("weight noise")),
    Candidate("norms for first against second label", "neighbours", _column("pairs"), _column("activations")),
    Candidate("distance to the boundary, in weights", "small", _margin_per("pairs"), _column("margin")),
    Candidate("distance to the boundary, in pixels", "small", _margin_per("slope"), _column("margin")),
    Candidate("nearest class by inner products", "small", _nearest_class, _nearest_feature),
    Candidate("cosines to class means, all layers", "class", _own_class("cosines"), _own_class("moment cosines")),
    Candidate("directions, all layers", "layers", _column("directions"), _column("moments")),
    Candidate(
        "directions, last two blocks",
        "layers",
        _some_layers("directions", slice(-5, None)),
        _some_layers("moments", slice(-5, None)),
    ),
    Candidate(
        "directions, first layer",
        "layers",
        _some_layers("directions", slice(0, 1)),
        _some_layers("moments", slice(0, 1)),
    ),
    Candidate(STEP, "class", _stepped, _averaged),
    Candidate("change under a step and under random signs", "class", _joined(_stepped, _averaged), _every_draw),
    Candidate("change of norms under a step", "class", _logged("step norms"), _logged("shake activations")),
    Candidate("gradient of the pixels, by frequency", "neighbours", _column("gradient bands"), _column("image bands")),
)
"""All candidates. One more is one entry."""


CONFIRMED: tuple[Candidate, ...] = tuple(
    candidate
    for candidate in CANDIDATES
    if candidate.name == "gradient norms" or "step" in candidate.name or "pixels, by" in candidate.name
)
"""What is scored on the confirmation half: those that did not lose on the design half, and the plain norms."""


def predictions(arrays: Arrays) -> Integers:
    """Predicted classes (N,)."""
    classes: Integers = arrays["logits"].argmax(1)
    return classes


def learn(density: str, select: Select, known: Arrays, labels: Integers, apart: npt.NDArray[np.bool_]) -> Surprise:
    """Fit one member the way Guard fits its own.

    Args:
        density: As in `Candidate`.
        select: What the member looks at.
        known: Readings of N known images.
        labels: Their classes (N,).
        apart: Which of them (N,) make the p-values.

    Returns:
        Maps readings of M images to -log p (M,).
    """
    values, classes = select(known), predictions(known)
    score = _DENSITIES[density](values[~apart], labels[~apart], values[apart])
    tail = Tail(score(values[apart], classes[apart]))
    return lambda arrays: tail.surprise(score(select(arrays), predictions(arrays)))


def with_cosines(arrays: Arrays, means: Mapping[str, Floats]) -> dict[str, Floats]:
    """The readings with cosines of second moments and features to their class means, which the controls look at."""
    if "moments" not in arrays:
        return dict(arrays)
    features = _features(arrays)
    moments = np.einsum("nlf,lcf->nlc", arrays["moments"], means["moments"])
    return {**arrays, "moment cosines": moments, "feature cosines": features @ means["features"].T}


def class_means(arrays: Arrays) -> dict[str, Floats]:
    """Unit class means of second moments (L, C, F) and features (C, F), by predicted class."""
    classes = predictions(arrays)
    every = np.unique(classes)
    moments = np.stack([arrays["moments"][classes == k].mean(0) for k in every], 1)
    features = np.stack([_features(arrays)[classes == k].mean(0) for k in every])
    return {
        name: mean / np.linalg.norm(mean, axis=-1, keepdims=True)
        for name, mean in (("moments", moments), ("features", features))
    }


def _features(arrays: Arrays) -> Floats:
    last = max((name for name in arrays if name.startswith("layer ")), key=lambda name: int(name.split()[1]))
    features: Floats = arrays[last] / np.linalg.norm(arrays[last], axis=1, keepdims=True).clip(1e-12)
    return features


def _logs(values: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(values, 1e-12))
    return logs


def _neighbours(values: Floats, _: Integers, __: Floats) -> Score:
    density = NeighbourDensity(NEIGHBOURS).fit(values)
    return lambda rows, classes: density.score(rows)


def _class(values: Floats, labels: Integers, _: Floats) -> Score:
    gaussians = ClassGaussians.fit(values, labels)
    return gaussians.to


def _layers(values: Floats, labels: Integers, held_out: Floats) -> Score:
    def views(rows: Floats) -> Views:
        nothing = np.empty((len(rows), 0))
        return Views(nothing, tuple(rows.swapaxes(0, 1)), nothing)

    member = LayerDistance()
    member.fit(views(values), labels)
    member.settle(views(held_out))
    return lambda rows, classes: member.score(views(rows))


def _small(_: Floats, __: Integers, ___: Floats) -> Score:
    return lambda rows, classes: -rows[:, 0]


_DENSITIES: dict[str, Callable[[Floats, Integers, Floats], Score]] = {
    "neighbours": _neighbours,
    "class": _class,
    "layers": _layers,
    "small": _small,
}
