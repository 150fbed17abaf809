"""Constructor arguments of a detector as JSON values, and back."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradiometer import gradients
from gradiometer.errors import ArtefactError


def encode(value: Any) -> Any:
    """Describe an argument in JSON.

    Args:
        value: A number, also one of NumPy's, a string, None, a sequence of these, a tensor, or one of the objectives
            of `gradiometer.gradients`. Anything else (a function, an objective of the user's) is described by its name.

    Returns:
        Its description.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [encode(item) for item in value]
    if isinstance(value, Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    kind = type(value)
    if is_dataclass(value) and getattr(gradients, kind.__name__, None) is kind:
        return {"objective": kind.__name__, "with": {f.name: encode(getattr(value, f.name)) for f in fields(value)}}
    named = value if hasattr(value, "__qualname__") else kind
    return {"function": f"{named.__module__}.{named.__qualname__}"}


def written(kind: type, parameters: Mapping[str, Any]) -> list[str]:
    """Arguments that are not the defaults of a constructor, in short, as they are written.

    Args:
        kind: The class.
        parameters: Descriptions by name of the argument, as `encode` gives them.

    Example:
        >>> written(complex, {"step": 0.01, "objective": {"objective": "PseudoLabel", "with": {}}})
        ['step=0.01', 'objective=PseudoLabel']
    """
    defaults = inspect.signature(kind).parameters
    return [
        f"{name}={_short(value)}"
        for name, value in parameters.items()
        if name not in defaults or encode(defaults[name].default) != value
    ]


def _short(described: Any) -> str:
    if isinstance(described, dict):
        return str(described.get("objective") or described.get("function") or "tensor")
    return reprlib.repr(described)


def decode(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the arguments of a saved detector.

    Args:
        parameters: Descriptions by name of the argument.
        given: The functions and the user's own objects among the arguments, which no file can hold.

    Returns:
        The arguments by name.

    Raises:
        ArtefactError: A function is missing or another one than at saving, an argument is given that the file fixes,
            or an objective is unknown.
    """
    arguments = {}
    for name in {**parameters, **given}:
        described = parameters.get(name)
        if isinstance(described, dict) and "function" in described:
            if name not in given:
                raise ArtefactError(f"the detector was saved with {name}={described['function']}; give it to load")
            if encode(given[name]) != described:
                raise ArtefactError(f"the detector was saved with {name}={described['function']}; give that one")
            arguments[name] = given[name]
        elif name in given:
            raise ArtefactError(f"load takes what a file cannot hold, and {name!r} is in the file; leave it out")
        else:
            arguments[name] = _rebuild(described)
    return arguments


def _rebuild(described: Any) -> Any:
    if isinstance(described, list):
        return [_rebuild(item) for item in described]
    if not isinstance(described, dict):
        return described
    if "tensor" in described:
        return torch.tensor(described["tensor"], dtype=getattr(torch, described["dtype"]))
    name = described.get("objective")
    if not isinstance(name, str) or not is_dataclass(getattr(gradients, name, None)):
        raise ArtefactError(f"the objective {name!r} of the saved detector is unknown; upgrade gradiometer")
    return getattr(gradients, name)(**{key: _rebuild(value) for key, value in described["with"].items()})
