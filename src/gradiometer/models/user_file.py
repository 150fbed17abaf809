"""Models that a Python file of the user builds: `path/to/file.py:factory@weights.safetensors`."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gradiometer.errors import ArtefactError, ModelError
from gradiometer.models.stored import load_weights, read_weights
from gradiometer.models.suggestions import suggest

_SPEC = re.compile(r"(?P<file>.+?\.py)(?::(?P<factory>[^@:]*))?(?:@(?P<weights>.+))?")


def is_user_file(spec: str) -> bool:
    """Whether a spec names a Python file."""
    return _SPEC.fullmatch(spec) is not None


def user_model(spec: str, options: dict[str, Any]) -> nn.Module:
    """Import the file, call the factory and load the weights.

    Args:
        spec: `path/to/file.py:factory` or `path/to/file.py:factory@weights`.
        options: Given to the factory.

    Raises:
        ModelError: If the file cannot be imported, or the factory is missing, fails or returns no module.
        ArtefactError: If the file or the weights are missing or do not fit.
    """
    match = _SPEC.fullmatch(spec)
    if match is None or not match["factory"]:
        raise ModelError(f"{spec!r} names no factory; write path/to/file.py:factory or file.py:factory@weights")
    path, name, weights = Path(match["file"]), match["factory"], match["weights"]
    module = _import_file(path)
    factory = getattr(module, name, None)
    if not callable(factory):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"{path} has no function {name!r}; {suggest(name, own)}")
    try:
        model = factory(**options)
    except Exception as error:
        raise ModelError(f"{name} in {path} failed ({type(error).__name__}: {error})") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} in {path} must return a torch.nn.Module, it returned {type(model).__name__}")
    if weights is not None:
        load_weights(model, read_weights(Path(weights)), weights)
    return model


def _import_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own; it may import its neighbours."""
    if not path.is_file():
        there = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ArtefactError(f"there is no file {path}; {suggest(path.name, there)}")
    path = path.resolve()
    # A name of its own, so that two files called model.py do not replace each other.
    name = f"gradiometer_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ModelError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(specification)
    # Dataclasses and pickled workers look the module up by its name.
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ModelError(f"{path} cannot be imported ({type(error).__name__}: {error})") from error
    finally:
        sys.path.remove(str(path.parent))
    return module
