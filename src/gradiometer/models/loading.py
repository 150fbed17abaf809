"""One way to name a model, wherever it comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from gradiometer.errors import ArtefactError, InputError, ModelError
from gradiometer.models import libraries, shipped, stored, user_file
from gradiometer.models.normalize import Normalized
from gradiometer.models.suggestions import suggest

LIBRARIES = {
    "torchvision": libraries.torchvision_model,
    "timm": libraries.timm_model,
    "hf": libraries.huggingface_model,
}


def load(
    spec: str | os.PathLike[str],
    *,
    weights: str | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> nn.Module:
    """Load a classifier that takes images (B, K, H, W) in [0, 1] and returns logits (B, C).

    | spec | model |
    |---|---|
    | `resnet20-cifar10` | a trained model that comes with the package, see `names()` |
    | `runs/mine` or `runs/mine/model.safetensors` | a model that `gradiometer train` wrote |
    | `path/to/file.py:factory@weights.safetensors` | what a function of yours returns |
    | `torchvision:NAME` | a classifier of torchvision |
    | `timm:NAME` | a model of timm |
    | `hf:FOLDER`, `hf:OWNER/NAME` | a trained image classifier of transformers, from a folder or the local cache |
    | `hf:config.json`, `hf:KIND` | an untrained one, from a configuration or the default one of a kind such as `vit` |

    Weights are a `.safetensors` file, or a state dict in a `.pt` or `.pth` file; `path/to/file.py:factory` alone keeps
    those that the function gave. `torchvision:`, `timm:` and `hf:` take `@FILE` as well. Without it, the weights of
    torchvision and timm are drawn at random. Nothing is downloaded unless `weights` asks for published ones.

    Args:
        spec: The name of the model. A file of the user is run as Python.
        weights: `DEFAULT` for the published weights of a library, or their name (`IMAGENET1K_V2` of torchvision, the
            tag of timm), which the library downloads when it does not have them; or a file.
        classes: Number of classes of a model of a library.
        mean: Mean of each channel; for a library, that of its own preprocessing when absent.
        std: Standard deviation of each channel, likewise.
        **options: Given to the constructor of the library or the factory of the user.

    Returns:
        The module in evaluation mode, on the CPU.

    Raises:
        ModelError: If the spec is unknown, the model cannot be built, or weights are NaN or infinite.
        ArtefactError: If a file is missing, broken, or holds the weights of another model.
        InputError: If an argument does not go with the kind of model.
        DependencyError: If the library is not installed.

    Example:
        >>> load("torchvision:resnet18", classes=10).training
        False
    """
    text = os.fspath(spec)
    kind, separator, name = text.partition(":")
    if separator and kind in LIBRARIES:
        model = LIBRARIES[kind](name, weights=weights, classes=classes, mean=mean, std=std, options=options)
    elif user_file.is_user_file(text):
        _refuse(text, weights=weights, classes=classes)
        model = user_file.user_model(text, options)
        if mean is not None or std is not None:
            if mean is None or std is None:
                raise InputError(f"{text} needs mean and std together, got mean={mean} and std={std}")
            model = Normalized(model, mean, std)
    else:
        _refuse(text, weights=weights, classes=classes, mean=mean, std=std, **options)
        if text in shipped.names():
            with shipped.weights(text) as file:
                model = stored.read(file)
        else:
            model = stored.read(_stored_file(text))
    stored.check_weights(model, text)
    return model.eval()


def header(spec: str | os.PathLike[str]) -> stored.Header:
    """Classes, class names, channels and size of a model of this package, without loading it.

    Args:
        spec: A shipped name, or a folder or file that `gradiometer train` wrote.

    Raises:
        ModelError: If it is none of these.
        ArtefactError: If the file is broken.
    """
    text = os.fspath(spec)
    kind, separator, _ = text.partition(":")
    if (separator and kind in LIBRARIES) or user_file.is_user_file(text):
        raise ModelError(f"{text} does not say what images it takes")
    if text in shipped.names():
        with shipped.weights(text) as file:
            return stored.read_header(file)
    return stored.read_header(_stored_file(text))


def _stored_file(text: str) -> Path:
    """The weights file that a path stands for."""
    path = Path(text)
    if text and path.is_dir():
        if not (path / stored.WEIGHTS).is_file():
            for file in sorted(path.glob("*.safetensors")):
                if other := stored.other_kind(file):
                    raise ArtefactError(f"{file} holds no classifier but {other}")
            unfinished = (path / "checkpoint.safetensors").is_file()
            reason = "its training is not finished; run the same command again" if unfinished else "train a model there"
            raise ArtefactError(f"the folder {path} holds no {stored.WEIGHTS}; {reason}")
        return path / stored.WEIGHTS
    if path.suffix in (".pt", ".pth"):
        raise ModelError(f"{path} does not say which network it belongs to; write path/to/file.py:factory@{path}")
    if path.suffix == ".safetensors":
        if not path.is_file():
            there = [file.name for file in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
            raise ArtefactError(f"there is no file {path}; {suggest(path.name, there)}")
        return path
    raise ModelError(
        f"unknown model {text!r}; {suggest(text, [*shipped.names(), *(f'{name}:' for name in LIBRARIES)])} "
        "(a shipped name, torchvision:NAME, timm:NAME, hf:NAME, path/to/file.py:factory@weights.safetensors, or a "
        "folder or file that gradiometer train wrote)"
    )


def _refuse(spec: str, **options: Any) -> None:
    """Arguments that would be ignored are mistakes."""
    given = sorted(name for name, value in options.items() if value is not None)
    if given:
        raise InputError(f"{spec} is complete and takes no {', '.join(given)}; leave it away")
