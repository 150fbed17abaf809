"""Densely connected networks for small images (Huang et al., CVPR 2017, arXiv 1608.06993, sections 3 and 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradiometer.errors import InputError
from gradiometer.models.normalize import Normalize

BLOCKS = 3


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution whose output is appended to its input.

    Args:
        channels: Channels of the input.
        growth: Channels that are appended.
        bottleneck: Whether a 1x1 convolution to four times `growth` channels comes first.
    """

    def __init__(self, channels: int, growth: int, *, bottleneck: bool) -> None:
        super().__init__()
        width = 4 * growth
        self.relu = nn.ReLU()
        self.reduce: nn.Sequential | None = None
        if bottleneck:
            self.reduce = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, width, 1, bias=False))
        inner = width if bottleneck else channels
        self.bn = nn.BatchNorm2d(inner)
        self.conv = nn.Conv2d(inner, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels + growth, H, W)."""
        out = x if self.reduce is None else self.reduce(x)
        return torch.cat((x, self.conv(self.relu(self.bn(out)))), 1)


class DenseNet(nn.Module):
    """Three blocks of dense layers, with a transition that halves the image after each of the first two.

    Args:
        depth: Weighted layers from the stem to the head: 6 n + 4 with bottlenecks, 3 n + 4 without.
        growth: Channels that each layer adds.
        reduction: Share of the channels that a transition keeps; 1 keeps all of them.
        bottleneck: Whether a 1x1 convolution precedes each 3x3 convolution.
        classes: Number of classes C.
        channels: Channels of the images.
        mean: Mean of each channel of the training images, for images in [0, 1].
        std: Standard deviation of each channel.

    Raises:
        InputError: If there is no such depth, or `growth` or `reduction` is out of range.

    Example:
        >>> DenseNet(depth=10, growth=4)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depth: int = 100,
        growth: int = 12,
        *,
        reduction: float = 0.5,
        bottleneck: bool = True,
        classes: int = 10,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        count, left = divmod(depth - 4, BLOCKS * (2 if bottleneck else 1))
        if count < 1 or left:
            form = "6 n + 4 (10, 16, ..., 40, ..., 100)" if bottleneck else "3 n + 4 (7, 10, ..., 40)"
            raise InputError(f"depth must be {form} {'with' if bottleneck else 'without'} bottlenecks, got {depth}")
        if growth < 1:
            raise InputError(f"growth must be at least 1, got {growth}")
        if not 0 < reduction <= 1:
            raise InputError(f"reduction must be above 0 and at most 1, got {reduction}")
        self.normalize = Normalize(channels, mean, std)
        # The paper's stem: twice the growth for DenseNet-BC, 16 channels otherwise.
        width = 2 * growth if bottleneck and reduction < 1 else 16
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        for block in range(1, BLOCKS + 1):
            layers = [DenseLayer(width + index * growth, growth, bottleneck=bottleneck) for index in range(count)]
            self.add_module(f"block{block}", nn.Sequential(*layers))
            width += count * growth
            if block < BLOCKS:
                kept = max(1, int(width * reduction))
                transition = nn.Sequential(
                    nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, kept, 1, bias=False), nn.AvgPool2d(2)
                )
                self.add_module(f"transition{block}", transition)
                width = kept
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, width of the last block) of images (B, channels, H, W) in [0, 1]."""
        x = self.stem(self.normalize(x))
        for block in range(1, BLOCKS + 1):
            x = self.get_submodule(f"block{block}")(x)
            if block < BLOCKS:
                x = self.get_submodule(f"transition{block}")(x)
        features: Tensor = self.relu(self.bn(x)).mean(dim=(2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W) in [0, 1]."""
        logits: Tensor = self.fc(self.features(x))
        return logits


def densenet(
    depth: int = 100,
    growth: int = 12,
    *,
    reduction: float = 0.5,
    bottleneck: bool = True,
    classes: int = 10,
    channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> DenseNet:
    """DenseNet-BC by default: 769,162 parameters in 299 tensors (100, 12), 176,122 in 119 (40, 12) for CIFAR-10."""
    return DenseNet(
        depth,
        growth,
        reduction=reduction,
        bottleneck=bottleneck,
        classes=classes,
        channels=channels,
        mean=mean,
        std=std,
    )
