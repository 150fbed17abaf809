"""Checkpoints of a training: weights, optimiser and figures in one safetensors file that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gradiometer.errors import ArtefactError
from gradiometer.files import replaced

_MOMENTUM = {"momentum_buffer": "momentum"}
"""What an entry of an optimiser's state is called in the file, where it is not `optimizer.ENTRY`."""

_MORE = "average."
"""What the further tensors of a training begin with; a moving average of the weights was the first of them."""


@dataclass(frozen=True, eq=False)
class Reached:
    """How far a training is, besides model and optimiser.

    Attributes:
        history: The figures of the epochs that are done.
        tensors: What else the training needs to go on, by name.
        notes: The same for JSON values.
    """

    history: list[dict[str, float]]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


def save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Mapping[str, object],
    images: str,
    reached: Reached,
) -> None:
    """Write a checkpoint; an interruption or a full disk leaves the one before it as it was.

    Args:
        path: The file to replace.
        model: Its whole state dict is kept.
        optimizer: Its state is kept, by name of the parameter.
        recipe: The settings; a training continues only under the same.
        images: SHA-256 of the training images; a training continues only on the same.
        reached: How far the training is.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    tensors |= {f"{_MORE}{name}": value.contiguous() for name, value in reached.tensors.items()}
    for name, parameter in model.named_parameters():
        # Asking for the state of a parameter that has none would make one.
        entries = optimizer.state.get(parameter, {})
        for entry, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{_title(entry)}.{name}"] = value.contiguous()
    texts = {"recipe": recipe, "epochs": reached.history, "notes": reached.notes}
    write_tensors(path, tensors, {"images": images, **{key: json.dumps(value) for key, value in texts.items()}})


def resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Mapping[str, object], images: str
) -> Reached:
    """Load a checkpoint into model and optimiser.

    Args:
        path: The file.
        model: Gets the weights.
        optimizer: Gets its state.
        recipe: The settings of this training.
        images: SHA-256 of the training images.

    Returns:
        How far the training is.

    Raises:
        ArtefactError: If the file is not a checkpoint, or one of another model, recipe or set of images.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        # Not mapped: a file that is mapped cannot be replaced on Windows, and the next checkpoint replaces it.
        tensors = safetensors.torch.load(path.read_bytes())
        recorded, history = json.loads(metadata["recipe"]), json.loads(metadata["epochs"])
        notes = json.loads(metadata.get("notes", "{}"))
    except (safetensors.SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ArtefactError(f"{path} is not a training checkpoint ({error}); delete it to start again") from error
    start_again = "give the same to continue, or another folder to start again"
    if recorded != recipe:
        changed = ", ".join(sorted(key for key in {*recipe, *recorded} if recorded.get(key) != recipe.get(key)))
        raise ArtefactError(f"{path} was trained with another {changed}; {start_again}")
    if metadata.get("images", images) != images:
        raise ArtefactError(f"{path} was trained on other images; {start_again}")
    try:
        model.load_state_dict(_below("model.", tensors))
    except RuntimeError as error:
        raise ArtefactError(f"{path} holds the weights of another model: {error}; {start_again}") from error
    entries = {title for name in tensors if (title := _entry_of(name)) is not None}
    for name, parameter in model.named_parameters():
        for entry in entries:
            if (value := tensors.get(f"{_title(entry)}.{name}")) is not None:
                # Adam counts its steps on the CPU; what has the shape of the weights is where they are.
                placed = value if value.ndim == 0 else value.to(parameter.device)
                optimizer.state[parameter][entry] = placed
    return Reached(list(history), _below(_MORE, tensors), notes)


def _title(entry: str) -> str:
    return _MOMENTUM.get(entry, f"optimizer.{entry}")


def _entry_of(name: str) -> str | None:
    """The entry of the optimiser's state that a tensor of the file belongs to, or None."""
    first, _, rest = name.partition(".")
    if first == "optimizer":
        return rest.partition(".")[0]
    return next((entry for entry, title in _MOMENTUM.items() if title == first), None)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file in one step, so that no reader ever sees half of it.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    try:
        with replaced(path) as new:
            safetensors.torch.save_file(tensors, new, metadata=metadata)
    except (safetensors.SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} cannot be written ({error}); free space or choose another folder") from error
