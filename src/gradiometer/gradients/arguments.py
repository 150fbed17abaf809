"""Read the arguments of the instrument: which parameters, towards which reference, how much memory."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.factors import all_finite
from gradiometer.gradients.state import scripted


def chosen_parameters(model: nn.Module, globs: str | Sequence[str]) -> dict[str, Tensor]:
    """The parameters that match, without duplicates of tied ones."""
    given: Any = globs
    entries: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if others := [type(entry).__name__ for entry in entries if not isinstance(entry, str)]:
        raise InputError(
            f"parameters has an entry of type {others[0]}; give a name or names of parameters, * and ? allowed, such "
            'as "layer4.*"; "*" for all'
        )
    globs = entries
    if not globs:
        raise InputError('parameters is empty: give a glob or globs of names, "*" for all')
    everything = {name: parameter for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    if not everything:
        frozen = "; freezing has made constants of them: give the module from before" if scripted(model) else ""
        raise ModelError(f"{type(model).__name__} has no parameters{frozen}")
    for glob in globs:
        if not any(fnmatch.fnmatchcase(name, glob) for name in everything):
            some = ", ".join(list(everything)[:8])
            raise InputError(f"parameters={glob!r} matches none of the {len(everything)} parameters ({some}, ...)")
    return {
        name: parameter
        for name, parameter in everything.items()
        if any(fnmatch.fnmatchcase(name, glob) for glob in globs)
    }


def found_at(model: nn.Module, name: str) -> Tensor | None:
    """The parameter that has this name in `model.named_parameters()`, if there is one."""
    *path, last = name.split(".")
    module: Any = model
    try:
        for part in path:
            module = module._modules[part]
        parameter: Tensor | None = module._parameters[last]
    except (KeyError, AttributeError):  # a module that is no more there, or None
        return None
    return parameter


def placed_reference(reference: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A reference of the parameters that are read, on their devices.

    Args:
        reference: A tensor for each parameter, by name.
        parameters: The parameters that are read, by name.

    Raises:
        InputError: If it is no dict of finite tensors, or one is missing, unknown, or of another shape.
    """
    if not isinstance(reference, Mapping):
        raise InputError(f"reference must be a dict of tensors by parameter name, got {type(reference).__name__}")
    for name, parameter in parameters.items():
        if name not in reference:
            raise InputError(f"the reference lacks {name!r}; give a tensor for each of: {', '.join(parameters)}")
        if not isinstance(reference[name], Tensor) or not all_finite(reference[name]):
            raise InputError(f"the reference of {name!r} must be a tensor of finite numbers")
        if reference[name].shape != parameter.shape:
            raise InputError(
                f"the reference of {name!r} has shape {tuple(reference[name].shape)}, "
                f"the parameter {tuple(parameter.shape)}"
            )
    if unknown := set(reference) - set(parameters):
        raise InputError(f"the reference holds {min(unknown)!r}, which is not read by this instrument")
    return {name: reference[name].detach().to(parameter.device) for name, parameter in parameters.items()}


_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def memory_in_bytes(memory: str | int | None) -> int | None:
    """A working memory such as `"512MiB"` in bytes.

    Raises:
        InputError: If it cannot be read or is not positive.
    """
    if memory is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(memory).lower())
    if match is None or match[2] not in _UNITS or (size := int(float(match[1]) * _UNITS[match[2]])) <= 0:
        raise InputError(f"memory must be a positive number of bytes, or such as '512MiB' or '2GiB', got {memory!r}")
    return size
