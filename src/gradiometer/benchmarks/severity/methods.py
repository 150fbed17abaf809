"""The scores that are compared: those of auto-encoders of healthy scans, and what any of them has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from gradiometer import models
from gradiometer.anomaly import GradCon
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks.gradcon.cases import trained
from gradiometer.benchmarks.gradcon.references import Components
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.severity.settings import SeveritySettings
from gradiometer.data import to_unit
from gradiometer.detectors import Guard
from gradiometer.models import weights_hash

ALPHAS: Mapping[str, float] = {"CAE": 0.0, "CAE + grad": 0.03}
"""Weight of the gradient constraint of each network."""

CONTROLS = ("reconstruction",)
"""Scores of auto-encoders that need no gradient."""

PCA, GUARD, BRIGHTNESS = "PCA", "Guard on resnet20-cifar10", "no model"
AS_IS = "as-is"
MODELS = (BRIGHTNESS, PCA, GUARD, *ALPHAS)

_CLASSIFIER, _CLASSIFIER_SIZE = "resnet20-cifar10", 32
_LEARNT: tuple[Score, ...] = ("fused", "subspace")
_DARK = 20
"""Value of all channels below which a pixel counts as dark, of 255."""


@dataclass(frozen=True, eq=False)
class Sets:
    """Scans as the methods see them, uint8 (N, K, H, W).

    Attributes:
        train: Healthy scans to learn from.
        chosen_by: Healthy scans to choose the weights by.
        validation: Graded scans on which settings are chosen and grades are cut.
        test: Graded scans to test on.
    """

    train: Tensor
    chosen_by: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model says.

    Attributes:
        validation: Scores of the validation scans, by name.
        test: Scores of the test scans, by name.
        weights: Hash of the weights, or empty.
    """

    validation: dict[str, Floats]
    test: dict[str, Floats]
    weights: str = ""


def scores_of(model: str, sets: Sets, settings: SeveritySettings, seed: int) -> Scores:
    """All scores of one model.

    Args:
        model: One of `MODELS`.
        sets: The scans.
        settings: Epochs, dimensions, and where networks are kept.
        seed: Of the training.
    """
    if model == BRIGHTNESS:
        return Scores(brightness(sets.validation), brightness(sets.test))
    if model == PCA:
        return _components(sets)
    if model == GUARD:
        return _guard(sets, seed)
    return _auto_encoder(model, sets, settings, seed)


def brightness(scans: Tensor) -> dict[str, Floats]:
    """How dark scans are, which a score of disease should not live on.

    Args:
        scans: uint8 (N, K, H, W).

    Returns:
        (N,) each: share of dark pixels, and how far the mean pixel is below white in [0, 1].
    """
    pixels = scans.numpy()
    dark = (pixels.max(1) < _DARK).mean((1, 2))
    return {"share of dark pixels": dark, "darkness": 1 - pixels.mean((1, 2, 3)) / 255}


def nuisances(scans: Tensor) -> Floats:
    """Measurements (N, Q) of brightness and contrast that are held fixed in a partial correlation.

    Args:
        scans: uint8 (N, K, H, W), as they come.

    Returns:
        Share of dark pixels, standard deviation of all pixels, and the mean of each channel.
    """
    pixels = scans.numpy().astype(np.float64) / 255
    found: Floats = np.column_stack(
        [brightness(scans)["share of dark pixels"], pixels.std((1, 2, 3)), pixels.mean((2, 3))]
    )
    return found


def _auto_encoder(model: str, sets: Sets, settings: SeveritySettings, seed: int) -> Scores:
    recipe = settings.recipe(ALPHAS[model], seed, settings.epochs)
    found = trained(sets.train, sets.chosen_by, recipe, settings.networks)
    scores: dict[str, list[Floats]] = {}
    known = sets.train.numpy()
    detectors = [GradCon.of(found, score=one, directions=settings.directions).fit(known) for one in _LEARNT]
    for detector, names in zip(
        detectors, (("reconstruction", "gradient", "combined", "density", "fused"), ("subspace",)), strict=True
    ):
        parts = [detector.statistics(scans.numpy()) for scans in (sets.validation, sets.test)]
        for name in names:
            scores[name] = [detector.score_by(name, part) for part in parts]  # type: ignore[arg-type]
    both = [{name: pair[at] for name, pair in scores.items()} for at in range(2)]
    return Scores(both[0], both[1], weights_hash(found.network))


def _components(sets: Sets) -> Scores:
    method = Components().fit(_unit(sets.train))
    validation, test = (method.maps(_unit(scans)).mean((1, 2)) for scans in (sets.validation, sets.test))
    return Scores({"reconstruction": validation}, {"reconstruction": test})


def _guard(sets: Sets, seed: int) -> Scores:
    """Five members, with gradients, on a classifier that was trained for other images, fitted to the healthy scans."""
    network = models.load(_CLASSIFIER)
    detector = Guard(network, gradients=True, members="five", smoothing=False, seed=seed).fit(_enlarged(sets.train))
    validation, test = (detector.predict(_enlarged(scans)).numpy() for scans in (sets.validation, sets.test))
    return Scores({"known-only": validation}, {"known-only": test}, weights_hash(network))


def _enlarged(scans: Tensor) -> Tensor:
    """Scans in [0, 1] in the size and the channels of the classifier."""
    size = (_CLASSIFIER_SIZE, _CLASSIFIER_SIZE)
    colour = to_unit(scans).expand(-1, 3, -1, -1)
    return F.interpolate(colour, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def _unit(scans: Tensor) -> npt.NDArray[np.float32]:
    pixels: npt.NDArray[np.float32] = to_unit(scans).numpy()
    return pixels
