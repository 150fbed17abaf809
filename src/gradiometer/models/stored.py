"""Models that this package wrote: safetensors weights with a header that says which network they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradiometer.errors import ArtefactError, GradiometerError, ModelError
from gradiometer.models.checkpoint import write_tensors
from gradiometer.models.factory import build
from gradiometer.models.suggestions import suggest

SCHEMA = 1
KEY = "gradiometer"
WEIGHTS, RECORD = "model.safetensors", "record.json"
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""

_READERS = {
    "GradCon": "an auto-encoder of normal images with its detector, which gradiometer fit --detector gradcon fits "
    "again, and gradiometer calibrate, score and explain read",
    "SeverityModel": "a model of healthy scans, which gradiometer severity score reads",
    "ContrastiveEncoder": "an encoder without classes, which gradiometer severity probe reads",
}
"""What other trainings of this package write, by the class that is noted in the file, and who reads it."""


@dataclass(frozen=True)
class Header:
    """What is needed to build the network of a weights file again.

    Attributes:
        architecture: A name that `build` takes.
        classes: Number of classes C.
        channels: Channels K of the images.
        size: Height and width of the images in pixels.
        class_names: C names, in the order of the logits.
    """

    architecture: str
    classes: int
    channels: int
    size: int
    class_names: tuple[str, ...]


def write(path: Path, model: nn.Module, header: Header, *, half: bool = False) -> None:
    """Store a model with its header.

    Args:
        path: The file, by convention ending in `.safetensors`.
        model: The network that the header describes.
        header: What it is.
        half: Whether floats are rounded to float16 (half the size; loaded back as float32). A tensor with values
            beyond its range stays as it is.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        tensors = {name: _halved(value) for name, value in tensors.items()}
    # One entry: safetensors writes several in an order that changes, and the same weights should be the same file.
    write_tensors(path, tensors, {KEY: json.dumps({"schema": SCHEMA, **asdict(header)}, ensure_ascii=False)})


def read_header(path: Path) -> Header:
    """The header of a stored model.

    Raises:
        ArtefactError: If the file is missing, truncated, of a newer schema, or not a stored model.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} cannot be read as safetensors ({error}); is it complete?") from error
    if KEY not in metadata:
        raise ArtefactError(
            f"{path} does not say which network it belongs to, so it was not written by a finished training of this "
            f"package; name the network yourself: path/to/file.py:factory@{path}"
        )
    try:
        entries = json.loads(metadata[KEY])
        if other := _other(entries):
            raise ArtefactError(f"{path} holds no classifier but {other}")
        if (schema := int(entries["schema"])) > SCHEMA:
            raise ArtefactError(f"{path} has schema {schema}, this version reads up to {SCHEMA}; update gradiometer")
        return Header(
            architecture=str(entries["architecture"]),
            classes=int(entries["classes"]),
            channels=int(entries["channels"]),
            size=int(entries["size"]),
            class_names=tuple(map(str, entries["class_names"])),
        )
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, GradiometerError):
            raise
        raise ArtefactError(f"the header of {path} is broken ({error!r}); write the model again") from error


def other_kind(path: Path) -> str:
    """What a file holds that another training of this package wrote, and who reads it; empty for any other file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return _other(json.loads((file.metadata() or {}).get(KEY, "{}")))
    except (safetensors.SafetensorError, OSError, RecursionError, ValueError):
        return ""


def _other(entries: Any) -> str:
    """The same from the header."""
    kind = entries.get("class") if isinstance(entries, dict) else None
    if kind is None:
        return ""
    return f"a {kind}, {_READERS.get(kind, 'a detector, which gradiometer calibrate, score and explain read')}"


def read(path: Path) -> nn.Module:
    """Build the network of a stored model with its weights, in float32 and in evaluation mode.

    Raises:
        ArtefactError: If the file is not a stored model, or its weights do not fit the network that it names.
        ModelError: If the network is unknown to this version, or weights are NaN or infinite.
    """
    header = read_header(path)
    # Weights are about to be replaced: drawing them must not move the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = build(header.architecture, header.classes, header.channels, header.size)
    load_weights(model, read_weights(path), str(path))
    check_weights(model, str(path))
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors`, `.pt` or `.pth` file, without running any code that it may contain.

    Raises:
        ArtefactError: If the file is missing, cannot be read, or holds no state dict.
    """
    if not path.is_file():
        there = [file.name for file in path.parent.glob("*") if file.is_file()] if path.parent.is_dir() else []
        raise ArtefactError(f"there is no weights file {path}; {suggest(path.name, there)}")
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError) as error:
            raise ArtefactError(f"{path} cannot be read as safetensors ({error}); is it complete?") from error
    if path.suffix not in (".pt", ".pth"):
        raise ArtefactError(f"weights must be in a .safetensors, .pt or .pth file, got {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError here.
        raise ArtefactError(
            f"{path} cannot be read as a state dict of tensors ({type(error).__name__}: {error}); "
            "save model.state_dict(), not the model, or use safetensors"
        ) from error
    return _state_dict(loaded, path)


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict; every name and shape must fit, types are converted.

    Args:
        model: Gets the values.
        tensors: Values by name; a prefix of DataParallel or torch.compile on all of them is taken off.
        source: Where they come from, for the message.

    Raises:
        ArtefactError: If names or shapes do not fit, with the first of them.
    """
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    # Safetensors stores tied weights once: a name is present when any tensor of the same storage is.
    present = {value.data_ptr() for name, value in wanted.items() if name in tensors and value.numel()}
    missing = [name for name, value in wanted.items() if name not in tensors and value.data_ptr() not in present]
    unexpected = [name for name in tensors if name not in wanted]
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    problems = [
        f"{len(names)} {what}: {_first(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        hint = f"; for {missing[0]}, {suggest(missing[0], unexpected)}" if missing and unexpected else ""
        raise ArtefactError(
            f"{source} holds the weights of another network than {type(model).__name__} ({'; '.join(problems)}){hint}"
        )
    model.load_state_dict(dict(tensors), strict=False)


def check_weights(model: nn.Module, source: str) -> None:
    """Refuse weights with which every output would be NaN.

    Raises:
        ModelError: If a parameter is NaN or infinite or not there yet, or a buffer is NaN.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                f"parameter {name} of {source} has no shape yet; run the model on one batch in the factory"
            )
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise ModelError(f"parameter {name} of {source} has NaN or infinite values; train or export it again")
    for name, buffer in model.named_buffers():
        # Masks may be infinite on purpose; NaN never is.
        if buffer.is_floating_point() and bool(torch.isnan(buffer).any()):
            raise ModelError(f"buffer {name} of {source} has NaN values; train or export it again")


def _halved(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    rounded = value.half()
    return rounded if bool(torch.isfinite(rounded).all()) else value


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a training script saved: itself, or under one of the usual keys."""
    candidates = [loaded]
    if isinstance(loaded, dict):
        candidates += [loaded[key] for key in ("state_dict", "model_state_dict", "model") if key in loaded]
    for candidate in candidates:
        if isinstance(candidate, dict):
            tensors = {str(name): value for name, value in candidate.items() if isinstance(value, Tensor)}
            if tensors and len(tensors) == len(candidate):
                return tensors
    raise ArtefactError(f"{path} holds no state dict (names and tensors); save model.state_dict() alone")


def _first(names: Iterable[str], count: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")
