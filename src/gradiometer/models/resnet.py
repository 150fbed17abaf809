"""Residual networks for small images (He et al., "Deep Residual Learning", CVPR 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gradiometer.models.normalize import Normalize


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution.
        projection: Whether a changed shape goes through a 1x1 convolution (ResNet-18 and -34); without it the
            shortcut is subsampled and padded with zeros (option A of the paper: ResNet-20).
    """

    def __init__(self, channels_in: int, channels: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.stride = stride
        self.padding = channels - channels_in
        self.shortcut: nn.Module | None = None
        if projection and (stride != 1 or channels != channels_in):
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels_in, H, W) to (B, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride != 1 or self.padding:
            half = self.padding // 2
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.padding - half))
        result: Tensor = self.relu(out + x)
        return result


class ResNet(nn.Module):
    """A residual network for images of 28 to 64 pixels.

    Args:
        blocks: Residual blocks in each stage.
        widths: Channels of each stage; every stage after the first halves the image.
        classes: Number of classes C.
        channels: Channels of the images.
        projection: Kind of shortcut, see `BasicBlock`.
        mean: Mean of each channel of the training images, for images in [0, 1].
        std: Standard deviation of each channel.

    Example:
        >>> import torch
        >>> resnet20()(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        classes: int = 10,
        channels: int = 3,
        projection: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(channels, mean, std)
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        width = widths[0]
        for stage, (count, channels_out) in enumerate(zip(blocks, widths, strict=True), start=1):
            layers = []
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append(BasicBlock(width, channels_out, stride, projection=projection))
                width = channels_out
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.stages = len(widths)
        self.fc = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B, width of the last stage) of images (B, channels, H, W) in [0, 1]."""
        x = self.relu(self.bn1(self.conv1(self.normalize(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W) in [0, 1]."""
        logits: Tensor = self.fc(self.features(x))
        return logits


def resnet20(
    *, classes: int = 10, channels: int = 3, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> ResNet:
    """ResNet-20 with parameter-free shortcuts: 269,722 parameters in 59 tensors for CIFAR-10."""
    return ResNet((3, 3, 3), (16, 32, 64), classes=classes, channels=channels, projection=False, mean=mean, std=std)


def resnet18(
    *, classes: int = 10, channels: int = 3, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> ResNet:
    """ResNet-18 with a 3x3 stem and no pooling: 11,173,962 parameters in 62 tensors for CIFAR-10."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes=classes, channels=channels, mean=mean, std=std)


def resnet34(
    *, classes: int = 10, channels: int = 3, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> ResNet:
    """ResNet-34 with a 3x3 stem and no pooling: 21,282,122 parameters in 110 tensors for CIFAR-10."""
    return ResNet((3, 4, 6, 3), (64, 128, 256, 512), classes=classes, channels=channels, mean=mean, std=std)
