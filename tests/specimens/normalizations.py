"""Normalisation layers, PReLU and other per-channel parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.specimens.convolutions import pooled
from tests.specimens.record import Specimen, images, tagged


class ChannelsLastNorm(nn.Module):
    """Layer norm on a permuted map, as in ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, H, W) to (B, K, H, W)."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class OwnRootMeanSquare(nn.Module):
    """A root-mean-square norm written by hand, as most language models have it."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(features) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension."""
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


class NormTwice(nn.Module):
    """One batch norm after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, H, W) to (B, 3, H, W)."""
        return self.norm(self.second(torch.relu(self.norm(self.first(x)))))


class Residual(nn.Module):
    """A basic block: convolution, batch norm, in-place ReLU, twice, with a strided short cut, ReLU after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
        )
        self.short = nn.Sequential(nn.Conv2d(2, 4, 1, stride=2, bias=False), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, H, W) to (B, 4, H / 2, W / 2)."""
        return self.relu(self.body(x) + self.short(x))


def after_conv(dimensions: int, norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A convolution to four channels, the norm, a pooled head."""
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    return pooled(lambda: nn.Sequential(kind(2, 4, 3, padding=1), norm()), 4)


def normed(name: str, norm: Callable[[], nn.Module], *size: int, tags: tuple[str, ...] = ()) -> Specimen:
    """A norm after a convolution on a map of a given size."""
    return Specimen(name, after_conv(len(size), norm), images(2, *size), tags=tagged(*tags))


def on_features(name: str, norm: Callable[[], nn.Module], *size: int) -> Specimen:
    """A norm between two linear layers; inputs (B, *size, 5)."""
    return Specimen(
        name,
        lambda: nn.Sequential(nn.Linear(5, 6), norm(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(4)),
        images(*size, 5),
        tags=tagged("lazy"),
    )


def materialised(specimen: Specimen) -> Specimen:
    """Gives lazy layers their shapes before anything else looks at the network."""

    def factory() -> nn.Module:
        model = specimen.factory().eval()
        with torch.no_grad():
            model(specimen.draw(1, torch.Generator().manual_seed(0)))
        return model

    return Specimen(specimen.name, factory, specimen.draw, specimen.output, specimen.tags - {"lazy"})


NORMALIZATIONS = (
    materialised(on_features("batch_norm1d_on_vectors", lambda: nn.BatchNorm1d(6))),
    normed("batch_norm1d_on_signals", lambda: nn.BatchNorm1d(4), 6),
    normed("batch_norm2d", lambda: nn.BatchNorm2d(4), 4, 5),
    normed("batch_norm2d_without_affine", lambda: nn.BatchNorm2d(4, affine=False), 4, 4),
    normed("batch_norm2d_cumulative_momentum", lambda: nn.BatchNorm2d(4, momentum=None, eps=1e-2), 4, 4),
    normed("batch_norm3d", lambda: nn.BatchNorm3d(4), 2, 3, 3),
    Specimen("batch_norm_used_twice", pooled(NormTwice, 3), images(2, 4, 4)),
    Specimen(
        "batch_norm_first", pooled(lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3)), 3), images(2, 5, 5)
    ),
    Specimen("residual_block", pooled(Residual, 4), images(2, 6, 6)),
    materialised(on_features("layer_norm_on_vectors", lambda: nn.LayerNorm(6))),
    materialised(on_features("layer_norm_on_sequences", lambda: nn.LayerNorm(6), 4)),
    materialised(on_features("layer_norm_over_two_dimensions", lambda: nn.LayerNorm((4, 6)), 4)),
    materialised(on_features("layer_norm_over_two_of_three", lambda: nn.LayerNorm((3, 6)), 2, 3)),
    materialised(on_features("layer_norm_without_affine", lambda: nn.LayerNorm(6, elementwise_affine=False), 4)),
    materialised(on_features("layer_norm_without_bias", lambda: nn.LayerNorm(6, bias=False), 4)),
    normed("layer_norm_over_a_map", lambda: nn.LayerNorm((4, 3, 5)), 3, 5),
    normed("layer_norm_channels_last", lambda: ChannelsLastNorm(4), 3, 4),
    normed("group_norm", lambda: nn.GroupNorm(2, 4), 4, 4),
    normed("group_norm_without_affine", lambda: nn.GroupNorm(2, 4, affine=False), 4, 4, tags=("cancels",)),
    normed("group_norm_on_signals", lambda: nn.GroupNorm(4, 4), 6, tags=("cancels",)),
    materialised(on_features("group_norm_on_vectors", lambda: nn.GroupNorm(2, 6))),
    normed("instance_norm2d", lambda: nn.InstanceNorm2d(4), 4, 4, tags=("cancels",)),
    normed("instance_norm2d_affine", lambda: nn.InstanceNorm2d(4, affine=True), 4, 4, tags=("cancels",)),
    normed(
        "instance_norm2d_running_statistics",
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        4,
        4,
    ),
    normed("instance_norm1d_affine", lambda: nn.InstanceNorm1d(4, affine=True), 7, tags=("cancels",)),
    normed("instance_norm3d_affine", lambda: nn.InstanceNorm3d(4, affine=True), 2, 3, 3, tags=("cancels",)),
    materialised(on_features("rms_norm", lambda: nn.RMSNorm(6), 4)),
    materialised(on_features("rms_norm_over_two_dimensions", lambda: nn.RMSNorm((4, 6), eps=1e-3), 4)),
    materialised(on_features("rms_norm_by_hand", lambda: OwnRootMeanSquare(6), 4)),
    normed("local_response_norm", lambda: nn.LocalResponseNorm(3), 4, 4),
    normed("prelu_one_parameter", nn.PReLU, 4, 4),
    normed("prelu_per_channel", lambda: nn.PReLU(4), 4, 4),
    materialised(on_features("prelu_on_vectors", lambda: nn.PReLU(6))),
    normed("dropout_in_eval", lambda: nn.Sequential(nn.Dropout2d(0.5), nn.AlphaDropout(0.3)), 4, 4),
)
