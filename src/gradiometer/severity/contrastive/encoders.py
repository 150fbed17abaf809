"""Encoders that are pre-trained without classes, and the projection that is thrown away afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn

from gradiometer.errors import InputError
from gradiometer.models.normalize import Normalize
from gradiometer.models.resnet import ResNet

Stem = Literal["large", "small"]


@dataclass(frozen=True)
class EncoderSettings:
    """What an encoder is.

    Attributes:
        name: One of `ENCODERS`.
        channels: Channels K of the images.
        stem: `large` for scans of about 224 pixels: 7 x 7 in steps of two, without pooling behind it, as in the
            released code; `small` for images up to 64 pixels: 3 x 3 in steps of one, without pooling.
        mean: Mean of each channel of the training images, for images in [0, 1]; zeros when empty.
        std: Standard deviation of each channel; ones when empty.

    Raises:
        InputError: There is no such encoder or stem, or no such number of channels.
    """

    name: str = "resnet18"
    channels: int = 1
    stem: Stem = "large"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that are unknown."""
        if self.name not in ENCODERS:
            raise InputError(f"there is no encoder {self.name!r}; choose from {', '.join(ENCODERS)}")
        if self.stem not in ("large", "small"):
            raise InputError(f"there is no stem {self.stem!r}; choose large or small")
        if self.channels < 1:
            raise InputError(f"channels must be at least 1, got {self.channels}")


class Encoder(nn.Module):
    """A residual network without its classifier, behind its normalisation.

    Initial weights are drawn from torch's global generator, as those of any module.

    Args:
        settings: What it is.

    Attributes:
        settings: The same.
        width: Length D of its features.

    Example:
        >>> encoder = Encoder(EncoderSettings("resnet18", channels=1)).eval()
        >>> encoder(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 512])
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = Normalize(settings.channels, settings.mean or None, settings.std or None)
        self.network, self.width = ENCODERS[settings.name](settings)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, K, H, W) in [0, 1]."""
        features: Tensor = self.network(self.normalize(images))
        return features


class Projection(nn.Sequential):
    """The head of pre-training: linear, ReLU, linear. The loss gives its output length one.

    Args:
        width: Length D of the features.
        size: Length of the projection.
    """

    def __init__(self, width: int, size: int = 128) -> None:
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))


def make_encoder(settings: EncoderSettings, seed: int) -> Encoder:
    """An encoder with seeded initial weights; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(settings)


def make_projection(width: int, seed: int) -> Projection:
    """A projection with seeded initial weights; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Projection(width)


def _torchvision(build: Callable[..., nn.Module]) -> Callable[[EncoderSettings], tuple[nn.Module, int]]:
    """A residual network of torchvision with the stem of the settings, without pooling and classifier."""

    def make(settings: EncoderSettings) -> tuple[nn.Module, int]:
        network = build()
        network.conv1 = _stem(settings, 64)
        network.maxpool = nn.Identity()
        width = int(network.get_submodule("fc").in_features)  # type: ignore[arg-type]
        network.fc = nn.Identity()
        return network, width

    return make


def _narrow(blocks: Sequence[int]) -> Callable[[EncoderSettings], tuple[nn.Module, int]]:
    """A narrow residual network for small images."""

    def make(settings: EncoderSettings) -> tuple[nn.Module, int]:
        network = ResNet(blocks, (16, 32, 64), channels=settings.channels)
        network.conv1 = _stem(settings, 16)
        width = network.fc.in_features
        network.fc = nn.Identity()  # type: ignore[assignment]
        return network, width

    return make


def _stem(settings: EncoderSettings, width: int) -> nn.Conv2d:
    """The first convolution."""
    kernel, stride = (7, 2) if settings.stem == "large" else (3, 1)
    stem = nn.Conv2d(settings.channels, width, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem


ENCODERS: dict[str, Callable[[EncoderSettings], tuple[nn.Module, int]]] = {
    "resnet18": _torchvision(torchvision.models.resnet18),
    "resnet50": _torchvision(torchvision.models.resnet50),
    "resnet20": _narrow((3, 3, 3)),
    "resnet8": _narrow((1, 1, 1)),
}
"""Name -> what builds it: returns the network and the length of its features. The last two are for 28 to 64 pixels."""
