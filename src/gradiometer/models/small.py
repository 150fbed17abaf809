"""Two small convolutional networks without batch norm: one for digits, one for traffic signs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradiometer.errors import InputError
from gradiometer.models.normalize import Normalize, Standardize, check_images


class DigitsCNN(nn.Module):
    """Three convolutions, a maximum and an average pool, two linear layers: 10 parameter tensors.

    Args:
        classes: Number of classes C.
        channels: Channels of the images.
        size: Height and width of the images, at least 4: 8 for scikit-learn's digits, 28 for MNIST.
        mean: Mean of each channel of the training images, for images in [0, 1].
        std: Standard deviation of each channel.

    Raises:
        InputError: If the images are too small.

    Example:
        >>> DigitsCNN(size=8)(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 1,
        size: int = 8,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if size < 4:
            raise InputError(f"images must have at least 4 x 4 pixels for this network, got size {size}")
        self.channels, self.size = channels, size
        self.normalize = Normalize(channels, mean, std)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.maximum = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.average = nn.AvgPool2d(2)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(64 * (size // 4) ** 2, 64)
        self.fc2 = nn.Linear(64, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, 64) of images (B, channels, size, size) in [0, 1]."""
        check_images(x, self.channels, self.size)
        x = self.relu(self.conv1(self.normalize(x)))
        x = self.maximum(self.relu(self.conv2(x)))
        x = self.average(self.relu(self.conv3(x)))
        features: Tensor = self.relu(self.fc1(torch.flatten(x, 1)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, size, size) in [0, 1]."""
        logits: Tensor = self.fc2(self.features(x))
        return logits


class CureTsrLeNet(nn.Module):
    """The reference classifier of CURE-TSR (Temel et al., arXiv 1712.02463): LeNet in 10 parameter tensors.

    Each channel of each image is standardised on its own, as its authors do; the L2 normalisation that they apply
    before it cancels out, so it is left away, and statistics of the training images play no part.

    Args:
        classes: Number of classes C; CURE-TSR has 14 types of signs.
        channels: Channels of the images.
        size: Height and width of the images, at least 16.

    Raises:
        InputError: If the images are too small.

    Example:
        >>> CureTsrLeNet()(torch.rand(2, 3, 28, 28)).shape
        torch.Size([2, 14])
    """

    def __init__(self, *, classes: int = 14, channels: int = 3, size: int = 28) -> None:
        super().__init__()
        if size < 16:
            raise InputError(f"images must have at least 16 x 16 pixels for this network, got size {size}")
        self.standardize = Standardize(channels, size)
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        side = ((size - 4) // 2 - 4) // 2
        self.fc1 = nn.Linear(16 * side**2, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, 84) of images (B, channels, size, size) in [0, 1]."""
        x = self.pool(self.relu(self.conv1(self.standardize(x))))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.fc1(torch.flatten(x, 1)))
        features: Tensor = self.relu(self.fc2(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, size, size) in [0, 1]."""
        logits: Tensor = self.fc3(self.features(x))
        return logits
