"""Which class a saved detector belongs to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from gradiometer.detectors import storage
from gradiometer.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from gradiometer.detectors.base import Detector

_CLASSES: dict[str, type[Detector]] = {}

DetectorClass = TypeVar("DetectorClass", bound="type[Detector]")


def register(detector: DetectorClass) -> DetectorClass:
    """Make a detector class known to [load][gradiometer.detectors.registry.load], under its name. A decorator.

    Raises:
        InputError: A class of another module has that name already.
    """
    present = _CLASSES.get(detector.__name__)
    if present is not None and present.__module__ != detector.__module__:
        raise InputError(f"{present.__module__} has a detector named {detector.__name__} already; choose another name")
    _CLASSES[detector.__name__] = detector
    return detector


def registered() -> dict[str, type[Detector]]:
    """All detector classes that can be loaded, by name."""
    return dict(_CLASSES)


def load(path: str | os.PathLike[str], model: nn.Module | None = None, **given: Any) -> Detector:
    """Load a saved detector, whatever its class.

    Args:
        path: The file.
        model: The model that it was fitted on; may be left out when the file holds it.
        given: Constructor arguments that a file cannot hold (functions, objectives of your own), by name.

    Returns:
        The detector, ready to score.

    Raises:
        ArtefactError: The file is unusable, of an unknown class, or of another model.
    """
    name = storage.read(path).get("class")
    if name not in _CLASSES:
        raise ArtefactError(
            f"{path} holds a detector of class {name!r}, known are {', '.join(sorted(_CLASSES))}; import the module "
            "that defines it, or upgrade gradiometer"
        )
    return _CLASSES[name].load(path, model, **given)
