"""From a detector to what its file holds, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from gradiometer import __version__
from gradiometer.detectors.arguments import decode
from gradiometer.detectors.calibration import Calibration
from gradiometer.detectors.known import Known
from gradiometer.detectors.storage import Artefact
from gradiometer.errors import ArtefactError, NotFittedError
from gradiometer.gradients.state import plain
from gradiometer.models.hashing import weights_hash

if TYPE_CHECKING:
    from gradiometer.detectors.base import Detector

Array = npt.NDArray[np.generic]
_Kind = TypeVar("_Kind", bound="Detector")

_PACKAGES = ("numpy", "pytorch-ood", "scikit-learn", "torch")
"""Packages whose versions a saved detector names."""


def contents(detector: Detector) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header of the file, and the arrays by name.

    Args:
        detector: A detector whose model is the one of the fit.

    Raises:
        NotFittedError: There is nothing to save yet.
    """
    known, calibration = detector._known, detector.calibration
    if known is None:
        raise NotFittedError("there is nothing to save yet; call fit or calibrate first")
    header = known.header() | {
        "class": type(detector).__name__,
        "parameters": detector._parameters(),
        "false_alarm_rate": None if calibration is None else calibration.false_alarm_rate,
        "about": detector._describe(),
        "holds_model": detector._holds_model(),
        "versions": {name: version(name) for name in _PACKAGES} | {"gradiometer": __version__},
    }
    arrays = known.arrays() | {f"state.{name}": array for name, array in detector._state().items()}
    if calibration is not None:
        arrays |= {"scores": calibration.scores, "predictions": calibration.predictions}
    return header, arrays


def restored(
    kind: type[_Kind],
    artefact: Artefact,
    path: str | os.PathLike[str],
    model: nn.Module | None,
    given: Mapping[str, Any],
) -> _Kind:
    """The detector of what `contents` gave.

    Args:
        kind: The class of the detector.
        artefact: Header and arrays.
        path: Where they are from, for messages.
        model: The model of the fit; may be None when the file holds it.
        given: Constructor arguments that a file cannot hold, by name.

    Raises:
        ArtefactError: They are of another class, of another model, or not complete.
    """
    if artefact.get("class") != kind.__name__:
        raise ArtefactError(
            f"{path} holds a {artefact.get('class')}, not a {kind.__name__}; gradiometer.detectors.load takes any"
        )
    model = plain(kind._rebuild(artefact) if model is None else model)
    weights = weights_hash(model)
    if artefact.get("weights") != weights:
        raise ArtefactError(
            f"{path} was fitted on a model with other weights (SHA-256 {artefact.get('weights')[:12]}..., this one "
            f"has {weights[:12]}...); load the right weights, or fit and calibrate again"
        )
    detector = kind(model, **decode(artefact.get("parameters"), given))
    state = {name.removeprefix("state."): a for name, a in artefact.tensors.items() if name.startswith("state.")}
    try:
        detector._restore(state)
    except KeyError as error:
        raise ArtefactError(f"{path} lacks the array {error} of its state; save the detector again") from error
    detector._recall(artefact.header.get("about", {}))
    known = detector._known = Known.restore(artefact)
    if artefact.get("false_alarm_rate") is not None:
        predictions = artefact.array("predictions").astype(np.int64)
        detector.calibration = Calibration(artefact.floats("scores"), artefact.get("false_alarm_rate"), predictions)
    if not any(getattr(module, "training", False) for module in model.modules()):
        detector._trust(known)  # one in train mode is looked at before the first reading
    return detector
