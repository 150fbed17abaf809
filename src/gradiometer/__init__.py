"""Uncertainty from gradients: how far would a trained network have to change for this one input?

The names of this module are the public ones. They are imported on first use, so that `import gradiometer` stays light:
PyTorch is loaded when the first name that needs it is asked for.

Example:
    >>> import gradiometer
    >>> "Gradiometer" in dir(gradiometer)
    True
"""

from __future__ import annotations

import importlib
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
    from gradiometer import anomaly, data, detectors, models
    from gradiometer.anomaly import GradCon
    from gradiometer.detectors import MSP, Energy, Guard, NormalizedMahalanobis, Purview, Verdict
    from gradiometer.gradients import (
        ConfoundingLabel,
        ContrastClasses,
        Gradiometer,
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
    "models",
]

_MODULES: Final = frozenset({"anomaly", "data", "detectors", "models"})

_HOMES: Final = {
    **dict.fromkeys(
        (
            "ConfoundingLabel",
            "ContrastClasses",
            "Gradiometer",
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
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not yet."""
    return sorted({*globals(), *__all__})
