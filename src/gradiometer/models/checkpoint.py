"""Checkpoints of a training: weights, momentum and figures in one safetensors file, replaced after every epoch."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gradiometer.errors import ArtefactError


def save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: dict[str, object],
    history: list[dict[str, float]],
    images: str,
    average: dict[str, Tensor],
) -> None:
    """Write a checkpoint; an interruption or a full disk leaves the one before it as it was.

    Args:
        path: The file to replace.
        model: Its whole state dict is kept.
        optimizer: Its momentum is kept, by name of the parameter.
        recipe: The settings; a training continues only under the same.
        history: The figures of the epochs that are done.
        images: SHA-256 of the training images; a training continues only on the same.
        average: The moving average of the state, by name, if there is one.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value.contiguous() for name, value in average.items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer") if parameter in optimizer.state else None
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.contiguous()
    write_tensors(path, tensors, {"recipe": json.dumps(recipe), "epochs": json.dumps(history), "images": images})


def resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: dict[str, object], images: str
) -> list[dict[str, float]]:
    """Load a checkpoint into model and optimiser.

    Args:
        path: The file.
        model: Gets the weights.
        optimizer: Gets the momentum.
        recipe: The settings of this training.
        images: SHA-256 of the training images.

    Returns:
        The figures of the epochs that are done.

    Raises:
        ArtefactError: If the file is not a checkpoint, or one of another model, recipe or set of images.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.torch.load_file(path)
        recorded, history = json.loads(metadata["recipe"]), json.loads(metadata["epochs"])
    except (safetensors.SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ArtefactError(f"{path} is not a training checkpoint ({error}); delete it to start again") from error
    start_again = "give the same to continue, or another folder to start again"
    if recorded != recipe:
        changed = ", ".join(sorted(key for key in {*recipe, *recorded} if recorded.get(key) != recipe.get(key)))
        raise ArtefactError(f"{path} was trained with another {changed}; {start_again}")
    if metadata.get("images", images) != images:
        raise ArtefactError(f"{path} was trained on other images; {start_again}")
    weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtefactError(f"{path} holds the weights of another model: {error}; {start_again}") from error
    for name, parameter in model.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
    return list(history)


def read_average(path: Path) -> dict[str, Tensor]:
    """The moving average in a checkpoint that `resume` has accepted, by name."""
    tensors = safetensors.torch.load_file(path)
    return {name.removeprefix("average."): value for name, value in tensors.items() if name.startswith("average.")}


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file under a temporary name first, so that no reader ever sees half of it.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        safetensors.torch.save_file(tensors, temporary, metadata=metadata)
        temporary.replace(path)
    except (safetensors.SafetensorError, OSError) as error:
        if temporary.is_file():
            temporary.unlink()
        raise ArtefactError(f"{path} cannot be written ({error}); free space or choose another folder") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name first.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be written ({error}); free space or choose another folder") from error
