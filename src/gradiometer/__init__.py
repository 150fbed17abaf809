"""Uncertainty from gradients: how far would a trained network have to change for this one input?

The names of this module are the public ones. They are imported on first use, so that `import gradiometer` stays light:
PyTorch is loaded when the first name that needs it is asked for.

Example:
    >>> import gradiometer
    >>> "Gradiometer" in dir(gradiometer)
    True
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gradiometer.errors import (
    ArtefactError,
    DependencyError,
    GradiometerError,
    InputError,
    ModelError,
    NotFittedError,
)

if TYPE_CHECKING:
    import os
    from typing import Any

    from torch import nn

    from gradiometer import anomaly, data, detectors, models
    from gradiometer.anomaly import GradCon
    from gradiometer.detectors import MSP, Detector, Energy, Guard, NormalizedMahalanobis, Purview, Verdict
    from gradiometer.gradients import (
        ConfoundingLabel,
        ContrastClasses,
        Gradiometer,
        OneLogit,
        PseudoLabel,
        Readings,
        Reconstruction,
        UniformTarget,
    )

__version__ = "0.1.0"

__all__ = [
    "MSP",
    "ArtefactError",
    "ConfoundingLabel",
    "ContrastClasses",
    "DependencyError",
    "Energy",
    "GradCon",
    "Gradiometer",
    "GradiometerError",
    "Guard",
    "InputError",
    "ModelError",
    "NormalizedMahalanobis",
    "NotFittedError",
    "OneLogit",
    "PseudoLabel",
    "Purview",
    "Readings",
    "Reconstruction",
    "UniformTarget",
    "Verdict",
    "__version__",
    "anomaly",
    "data",
    "detectors",
    "load",
    "models",
]

_ROOMS: Final = ("detectors", "gradients", "anomaly", "models", "data", "challenges", "severity")
"""Where other names may be that somebody asks this module for, in the order in which they are looked through."""

_MODULES: Final = frozenset({"anomaly", "data", "detectors", "models"})

_HOMES: Final = {
    **dict.fromkeys(
        (
            "ConfoundingLabel",
            "ContrastClasses",
            "Gradiometer",
            "OneLogit",
            "PseudoLabel",
            "Readings",
            "Reconstruction",
            "UniformTarget",
        ),
        "gradiometer.gradients",
    ),
    "GradCon": "gradiometer.anomaly",
    **dict.fromkeys(("MSP", "Energy", "Guard", "NormalizedMahalanobis", "Purview", "Verdict"), "gradiometer.detectors"),
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562) and keep it.

    Args:
        name: The attribute that was asked for and is not there yet.

    Returns:
        The class or submodule of that name.

    Raises:
        AttributeError: When the package has no public name like this.
    """
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_elsewhere(name)}")


def load(path: str | os.PathLike[str], model: nn.Module | None = None, **given: Any) -> Detector:
    """Load a saved detector, whatever its class.

    Args:
        path: A file that `save` or `gradiometer fit` wrote.
        model: The model that it was fitted on; may be left out when the file holds it.
        given: Constructor arguments that a file cannot hold (functions, objectives of your own), by name.

    Returns:
        The detector, ready to score.

    Raises:
        ArtefactError: The file is unusable, of an unknown class, or of another model.
    """
    importlib.import_module(f"{__name__}.anomaly")  # its detector is known to the others from now on
    found: Detector = importlib.import_module(f"{__name__}.detectors").load(path, model, **given)
    return found


def _elsewhere(name: str) -> str:
    """Where a name is public, if it is in one of the rooms; these are read, not imported, which would take seconds."""
    if name.startswith("_"):  # Python and its tools ask for many of these
        return ""
    for room in _ROOMS:
        written = Path(__file__).with_name(room) / "__init__.py"
        entries = ast.parse(written.read_text(encoding="utf-8")).body if written.is_file() else []
        lists = [each.value for each in entries if isinstance(each, ast.Assign) and _targets(each) == ["__all__"]]
        if any(name in ast.literal_eval(each) for each in lists):
            return f"; write: from gradiometer.{room} import {name}"
    return ""


def _targets(entry: ast.Assign) -> list[str]:
    return [ast.unparse(target) for target in entry.targets]


def __dir__() -> list[str]:
    """The public names, imported or not yet."""
    return sorted({*globals(), *__all__})
