"""The trained models that come with the package."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from gradiometer.errors import ArtefactError, ModelError
from gradiometer.models.suggestions import suggest

FOLDER: Traversable = resources.files("gradiometer.models") / "weights"
"""Holds NAME.safetensors (weights) and NAME.json (training record) of each model."""

_SUFFIX = ".safetensors"


def names() -> tuple[str, ...]:
    """Names of the trained models that `load` takes."""
    if not FOLDER.is_dir():
        return ()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in FOLDER.iterdir() if file.name.endswith(_SUFFIX)))


def record(name: str) -> dict[str, Any]:
    """How a shipped model was trained: recipe, figures of every epoch, hashes, versions and test accuracy.

    Args:
        name: One of `names()`.

    Raises:
        ModelError: If there is no such model.
        ArtefactError: If its record is missing or broken.
    """
    _check(name)
    try:
        loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ArtefactError(
            f"the training record of {name} cannot be read ({error}); install the package again"
        ) from error
    return loaded


def weights(name: str) -> AbstractContextManager[Path]:
    """The weights file of a shipped model, unpacked for the duration of the context when the package is zipped.

    Raises:
        ModelError: If there is no such model.
    """
    _check(name)
    return resources.as_file(FOLDER / f"{name}{_SUFFIX}")


def _check(name: str) -> None:
    if name not in names():
        raise ModelError(f"no model {name!r} comes with this package; {suggest(name, names())}")
