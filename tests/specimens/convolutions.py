"""Convolutions and transposed convolutions in every geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.specimens.record import Specimen, images, tagged


class PooledHead(nn.Module):
    """A convolution body, a squash, a mean over space, a linear head.

    The map is multiplied with a fixed pattern before the mean: otherwise every position has the same output gradient
    and a rule that mixes up positions would go unnoticed.
    """

    def __init__(self, body: nn.Module, channels: int, classes: int = 4) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, ...) to (B, classes)."""
        x = torch.tanh(self.body(x)).flatten(2)
        pattern = 1.0 + torch.sin(torch.arange(x.shape[1] * x.shape[2], device=x.device).view(x.shape[1:]) * 1.7).to(x)
        return self.head((x * pattern).mean(2))


def pooled(body: Callable[[], nn.Module], channels: int) -> Callable[[], nn.Module]:
    """Delays the construction of a `PooledHead`."""
    return lambda: PooledHead(body(), channels)


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation: the weight is normalised functionally in each forward."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolves with the standardised weight."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class UpToSize(nn.Module):
    """Calls a transposed convolution with `output_size`, once by keyword and once by position."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
        self.second = nn.ConvTranspose2d(3, 2, 3, stride=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 3, 4) to (B, 2, 19, 23)."""
        x = torch.tanh(self.first(x, output_size=[6, 8]))
        return self.second(x, [19, 24])


class Unfolded(nn.Module):
    """A convolution spelled as unfold and a matrix product with a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 2 * 9) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, H, W) to (B, 3, H * W)."""
        return self.kernel @ F.unfold(x, 3, padding=1)


class PerSampleKernel(nn.Module):
    """Dynamic convolution: each sample's own kernel, with the batch folded into the groups."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(2, 3, 2, 3, 3) * 0.3)
        self.gate = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, H, W) to (B, 3, H, W)."""
        batch, channels, height, width = x.shape
        gate = torch.softmax(self.gate(x.mean((2, 3))), dim=1)
        kernels = torch.einsum("be,eoihw->boihw", gate, self.kernels).flatten(0, 1)
        x = F.conv2d(x.reshape(1, batch * channels, height, width), kernels, padding=1, groups=batch)
        return x.reshape(batch, 3, height, width)


class UnbatchedConvolution(nn.Module):
    """Calls a convolution once per sample on a (K, H, W) image without a batch dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, H, W) to (B, 3, H', W')."""
        return torch.stack([self.convolution(image) for image in x])


def conv(dimensions: int, *arguments: Any, transposed: bool = False, **options: Any) -> nn.Module:
    """Returns nn.Conv{1,2,3}d or nn.ConvTranspose{1,2,3}d."""
    return getattr(nn, f"Conv{'Transpose' if transposed else ''}{dimensions}d")(*arguments, **options)


def geometry(name: str, size: tuple[int, ...], *arguments: Any, transposed: bool = False, **options: Any) -> Specimen:
    """One layer of one geometry between the input and a pooled head, `size` without the channels."""
    dimensions, channels = len(size), arguments[0]
    prefix = f"conv{'_transpose' if transposed else ''}{dimensions}d"
    return Specimen(
        f"{prefix}_{name}",
        pooled(lambda: conv(dimensions, *arguments, transposed=transposed, **options), arguments[1]),
        images(channels, *size),
    )


def stack(name: str, body: Callable[[], nn.Module], channels: int, size: tuple[int, ...], *tags: str) -> Specimen:
    """Several layers before a pooled head, `size` with the channels."""
    return Specimen(name, pooled(body, channels), images(*size), tags=tagged(*tags))


CONVOLUTIONS = (
    geometry("plain", (9,), 3, 4, 3),
    geometry("stride_padding_dilation_groups", (11,), 4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
    geometry("string_same_dilated", (8,), 2, 3, 4, padding="same", dilation=2),
    geometry("reflect", (8,), 2, 3, 5, padding=2, padding_mode="reflect", bias=False),
    geometry("kernel_of_the_whole_signal", (6,), 2, 3, 6),
    geometry("plain", (6, 7), 3, 4, 3),
    geometry("without_bias", (6, 6), 3, 4, 3, bias=False, padding=1),
    geometry("one_by_one", (4, 5), 3, 4, 1),
    geometry("one_by_one_strided", (5, 6), 3, 4, 1, stride=2),
    geometry("one_by_one_padded", (3, 4), 3, 4, 1, padding=1),
    geometry("one_pixel", (1, 1), 5, 6, 1),
    geometry("anisotropic", (7, 9), 2, 3, (3, 2), stride=(2, 3), padding=(0, 2), dilation=(2, 1)),
    geometry("left_over_rows", (8, 9), 2, 3, 3, stride=4),
    geometry("stride_over_gaps", (9, 9), 2, 3, 2, stride=4, padding=1),
    geometry("dilated", (9, 8), 2, 3, 3, dilation=3, padding=3),
    geometry("groups", (5, 5), 6, 4, 3, groups=2, padding=1),
    geometry("groups_strided_dilated", (9, 8), 4, 8, 3, groups=4, stride=2, dilation=2, padding=1, bias=False),
    geometry("depthwise", (6, 6), 5, 5, 3, groups=5, padding=1),
    geometry("depthwise_multiplier", (6, 6), 3, 9, 3, groups=3, stride=2),
    geometry("string_same", (6, 7), 2, 3, 3, padding="same"),
    geometry("string_same_even_kernel", (6, 7), 2, 3, (4, 2), padding="same"),
    geometry("string_valid", (6, 7), 2, 3, 3, padding="valid", stride=2),
    geometry("reflect", (6, 6), 2, 3, 3, padding=1, padding_mode="reflect"),
    geometry("circular", (6, 6), 2, 3, 3, padding=(2, 1), padding_mode="circular"),
    geometry("replicate_strided", (6, 6), 2, 3, 3, padding=1, padding_mode="replicate", stride=2),
    geometry("string_same_reflect", (6, 6), 2, 3, (2, 3), padding="same", padding_mode="reflect"),
    geometry("big_kernel", (9, 9), 2, 2, 7, padding=3),
    geometry("kernel_bigger_than_the_image", (3, 3), 2, 3, 5, padding=2),
    geometry("wide_channels_small_map", (2, 2), 12, 16, 3, padding=1),
    geometry("few_channels_large_map", (16, 16), 1, 2, 3, padding=1),
    geometry("plain", (4, 5, 4), 2, 3, 3),
    geometry(
        "everything", (5, 6, 7), 4, 4, (2, 3, 2), stride=(1, 2, 2), padding=(1, 0, 1), dilation=(2, 1, 1), groups=2
    ),
    geometry("string_same_depthwise", (3, 4, 3), 3, 3, 3, groups=3, padding="same", bias=False),
    geometry("plain", (6,), 3, 4, 3, transposed=True),
    geometry("everything", (5,), 4, 6, 4, stride=3, padding=2, output_padding=1, dilation=2, groups=2, transposed=True),
    geometry("plain", (4, 4), 3, 4, 3, transposed=True),
    geometry("gradcon", (3, 3), 4, 3, 4, stride=2, padding=2, transposed=True),
    geometry("doubling", (3, 4), 4, 3, 2, stride=2, bias=False, transposed=True),
    geometry("output_padding", (3, 4), 2, 3, 3, stride=2, padding=1, output_padding=1, transposed=True),
    geometry("groups_dilated", (4, 3), 4, 6, 3, stride=2, dilation=2, groups=2, padding=1, transposed=True),
    geometry("depthwise", (4, 4), 3, 3, 3, stride=2, groups=3, transposed=True),
    geometry(
        "anisotropic", (3, 4), 2, 3, (1, 3), stride=(2, 1), padding=(0, 1), output_padding=(1, 0), transposed=True
    ),
    geometry("plain", (3, 2, 3), 2, 3, 2, transposed=True),
    geometry(
        "everything", (2, 3, 2), 4, 2, (2, 3, 2), stride=2, output_padding=1, padding=1, groups=2, transposed=True
    ),
    stack("conv_transpose2d_output_size", UpToSize, 2, (2, 3, 4)),
    stack("conv_unfolded_by_hand", Unfolded, 3, (2, 4, 5)),
    stack("conv_weight_standardised", lambda: StandardisedConv2d(2, 3, 3, padding=1), 3, (2, 5, 5)),
    stack("conv_dynamic_batch_in_groups", PerSampleKernel, 3, (2, 4, 4), "may_refuse"),
    stack("conv_called_without_batch", UnbatchedConvolution, 3, (2, 5, 5), "may_refuse"),
    stack(
        "conv_in_place_relu_first",
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3, stride=2)),
        3,
        (2, 7, 7),
    ),
    stack(
        "conv_pools_and_activations",
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Hardswish(inplace=True), nn.Conv2d(4, 4, 3, padding=1),
            nn.AvgPool2d(2), nn.Mish(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 8, 2, padding=1),
            nn.PixelShuffle(2),
        ),
        2,
        (2, 10, 10),
    ),
    stack(
        "conv_separable_stack",
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.ReLU6(), nn.Conv2d(6, 6, 3, groups=6, stride=2, padding=1), nn.ReLU6(),
            nn.Conv2d(6, 4, 1, bias=False),
        ),
        4,
        (3, 8, 8),
    ),
)  # fmt: skip
