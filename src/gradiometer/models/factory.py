"""The architectures of this package by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from gradiometer.errors import InputError, ModelError
from gradiometer.models.densenet import densenet
from gradiometer.models.resnet import resnet18, resnet20, resnet34
from gradiometer.models.small import CureTsrLeNet, DigitsCNN
from gradiometer.models.suggestions import suggest
from gradiometer.models.training import Recipe


@dataclass(frozen=True)
class Architecture:
    """A network that can be built and trained by name.

    Attributes:
        construct: Returns the module; called with classes, channels and those of size, mean and std that it takes.
        description: One line for people who choose.
        smallest: The smallest height and width of the images, in pixels.
        takes: Which of size, mean and std the constructor takes.
        recipe: Settings that train it well.
    """

    construct: Callable[..., nn.Module]
    description: str
    smallest: int = 8
    takes: tuple[str, ...] = ("mean", "std")
    recipe: Recipe = field(default_factory=Recipe)


_SMALL = Recipe(epochs=30, batch_size=64, learning_rate=0.05, augment="crop")

ARCHITECTURES: dict[str, Architecture] = {
    "resnet20": Architecture(resnet20, "ResNet-20: 270 thousand parameters, for 28 to 64 pixels"),
    "resnet18": Architecture(resnet18, "ResNet-18 with a 3x3 stem: 11 million parameters"),
    "resnet34": Architecture(resnet34, "ResNet-34 with a 3x3 stem: 21 million parameters"),
    "densenet-bc-100-12": Architecture(
        partial(densenet, 100, 12),
        "DenseNet-BC, depth 100, growth 12: 769 thousand parameters",
        recipe=Recipe(batch_size=64, learning_rate=0.1),
    ),
    "densenet-bc-40-12": Architecture(
        partial(densenet, 40, 12),
        "DenseNet-BC, depth 40, growth 12: 176 thousand parameters",
        recipe=Recipe(batch_size=64, learning_rate=0.1),
    ),
    "digits-cnn": Architecture(
        DigitsCNN,
        "three convolutions for digits of 8 to 28 pixels",
        smallest=4,
        takes=("size", "mean", "std"),
        recipe=_SMALL,
    ),
    "cure-tsr-lenet": Architecture(
        CureTsrLeNet,
        "LeNet of CURE-TSR for traffic signs of 28 pixels; standardises each image",
        smallest=16,
        takes=("size",),
        recipe=_SMALL,
    ),
}


def architectures() -> tuple[str, ...]:
    """The names that `build` takes."""
    return tuple(ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """Look up an architecture.

    Raises:
        ModelError: If there is none of this name.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"there is no architecture {name!r}; {suggest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build(
    name: str,
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build an untrained network that takes images in [0, 1] and returns logits.

    Initial weights are drawn from torch's global generator; call `torch.manual_seed` first to repeat them.

    Args:
        name: One of `architectures()`.
        classes: Number of classes C, at least 2.
        channels: Channels K of the images.
        size: Height and width of the images in pixels.
        mean: Mean of each channel of the training images, for images in [0, 1]; zeros when absent. A network that
            standardises each image by itself (`cure-tsr-lenet`) has no use for it.
        std: Standard deviation of each channel; ones when absent.

    Returns:
        The module in train mode, as any new module is.

    Raises:
        ModelError: If there is no such architecture.
        InputError: If a number is out of range.

    Example:
        >>> build("digits-cnn", classes=10, channels=1, size=8).fc2.out_features
        10
    """
    chosen = architecture(name)
    for what, value, least in (("classes", classes, 2), ("channels", channels, 1), ("size", size, chosen.smallest)):
        if value < least:
            raise InputError(f"{what} must be at least {least} for {name}, got {value}")
    offered: dict[str, Any] = {"size": size, "mean": mean, "std": std}
    return chosen.construct(classes=classes, channels=channels, **{key: offered[key] for key in chosen.takes})
