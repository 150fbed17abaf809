"""Architectures for pictures: classics in miniature, and torchvision's own classes at tiny sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models, ops
from torchvision.models.convnext import CNBlockConfig

from tests.specimens.record import Specimen, images, tagged


class UNet(nn.Module):
    """A U-Net of two levels with batch norm, transposed convolution and skips by concatenation; dense logits."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.bottom = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.merge = nn.Sequential(nn.Conv2d(6, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU(inplace=True))
        self.out = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 6, 6) to (B, 4, 6, 6)."""
        skip = self.down(x)
        return self.out(self.merge(torch.cat([skip, self.up(self.bottom(skip))], dim=1)))


class Inception(nn.Module):
    """Four branches that are concatenated, with an auxiliary head that eval mode ignores."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 2, 1)
        self.three = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(2, 1, (1, 5), padding=(0, 2)), nn.Conv2d(1, 2, (5, 1), padding=(2, 0)))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(2, 2, 1))
        self.auxiliary = nn.Linear(9, 4)
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 5, 5) to (B, 4)."""
        h = F.relu(torch.cat([branch(x) for branch in (self.one, self.three, self.five, self.pool)], 1), inplace=True)
        return self.head(h.amax((2, 3)))


class DenseBlock(nn.Module):
    """Every layer sees the concatenation of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 3, padding=1, bias=False))
            for width in (2, 4, 6)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 4, 4) to (B, 4)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.head(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    """Gates the channels by a function of their means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.gate = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Hardsigmoid())
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 6, 6) to (B, 4)."""
        h = F.silu(self.stem(x))
        return self.head((h * self.gate(F.adaptive_avg_pool2d(h, 1))).amax((2, 3)))


class SpatialTransformer(nn.Module):
    """Samples the picture on a grid that a layer computes."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Linear(36, 6)
        self.features = nn.Conv2d(1, 3, 3)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 6, 6) to (B, 4)."""
        theta = self.locate(x.flatten(1)).tanh().view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return self.head(self.features(F.grid_sample(x, grid, align_corners=False)).square().mean((2, 3)))


class Deformable(nn.Module):
    """The library's own deformable convolution, whose operator has no rule for vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(2, 18, 3, padding=1)
        self.convolution = ops.DeformConv2d(2, 3, 3, padding=1)
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 5, 5) to (B, 4)."""
        return self.head(torch.tanh(self.convolution(x, 0.3 * self.offsets(x))).amax((2, 3)))


class LeNet(nn.Module):
    """Convolutions, max-pooling, three linear layers, and `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.three, self.four = nn.Linear(16, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 14, 14) to (B, 4)."""
        h = F.max_pool2d(F.relu(self.one(x)), 2)
        h = F.max_pool2d(F.relu(self.two(h)), 2)
        return self.four(F.relu(self.three(h.view(len(x), -1))))


def autoencoder() -> nn.Module:
    """Convolutions down, transposed convolutions up, a sigmoid at the end (the geometry of GradCon)."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 4, 2, 2), nn.ReLU(), nn.Conv2d(3, 4, 4, 2, 2), nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 2), nn.ReLU(), nn.ConvTranspose2d(3, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


class VariationalAutoencoder(nn.Module):
    """Returns (reconstruction, mean, log variance); eval mode decodes the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(12, 6)
        self.mean, self.variance = nn.Linear(6, 3), nn.Linear(6, 3)
        self.decode = nn.Linear(3, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 12) to (B, 12) and the code."""
        h = F.elu(self.encode(x))
        return torch.sigmoid(self.decode(self.mean(h))), self.mean(h), self.variance(h)


def resnet() -> nn.Module:
    """The library's own ResNet-18 from its own blocks; the width is cut after the fact."""
    model = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4, width_per_group=64)
    return narrowed(model, 16)


def narrowed(model: nn.Module, factor: int) -> nn.Module:
    """Divides the width of every convolution, batch norm and the classifier of a network in place."""
    for module in model.modules():
        for kind, sizes in (
            (nn.Conv2d, ("in_channels", "out_channels")),
            (nn.BatchNorm2d, ("num_features",)),
            (nn.Linear, ("in_features",)),
        ):
            if isinstance(module, kind):
                for size in sizes:
                    if getattr(module, size) > 4:
                        setattr(module, size, getattr(module, size) // factor)
        if isinstance(module, nn.Conv2d):
            shape = (module.out_channels, module.in_channels, *module.kernel_size)
            module.weight = nn.Parameter(torch.randn(shape) * (2.0 / module.weight[0].numel() * factor) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            for name in ("weight", "bias"):
                setattr(module, name, nn.Parameter(getattr(module, name).data[: module.num_features].clone()))
            module.running_mean, module.running_var = (
                statistic[: module.num_features].clone() for statistic in (module.running_mean, module.running_var)
            )
        elif isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight.data[:, : module.in_features].clone())
    return model


def densenet() -> nn.Module:
    """The library's own DenseNet with two blocks of two layers."""
    return models.DenseNet(growth_rate=3, block_config=(2, 2), num_init_features=4, bn_size=2, num_classes=4)


def mobilenet() -> nn.Module:
    """The library's own MobileNetV3 (small) at an eighth of the width."""
    model = models.mobilenet_v3_small(num_classes=4, width_mult=0.125)
    return louder(model, 2.5)  # so few channels let the signal die out between the layers


def louder(model: nn.Module, factor: float) -> nn.Module:
    """Multiplies the weights of every convolution in place."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(factor)
    return model


def vit() -> nn.Module:
    """The library's own VisionTransformer."""
    return models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=4
    )


def convnext() -> nn.Module:
    """The library's own ConvNeXt with two stages, layer scale and stochastic depth."""
    settings = [CNBlockConfig(4, 6, 1), CNBlockConfig(6, None, 1)]
    return models.ConvNeXt(settings, stochastic_depth_prob=0.2, layer_scale=0.3, num_classes=4)


def swin() -> nn.Module:
    """The library's own SwinTransformer with windows of two patches, shifted in every other block."""
    return models.SwinTransformer(
        patch_size=[2, 2], embed_dim=4, depths=[2, 2], num_heads=[2, 2], window_size=[2, 2], num_classes=4
    )


def swin_v2() -> nn.Module:
    """The second version: cosine attention and a position bias from a small network without a batch."""
    return models.SwinTransformer(
        patch_size=[2, 2], embed_dim=4, depths=[2], num_heads=[2], window_size=[2, 2], num_classes=4,
        block=models.swin_transformer.SwinTransformerBlockV2, downsample_layer=models.swin_transformer.PatchMergingV2,
    )  # fmt: skip


VISION = (
    Specimen("lenet", LeNet, images(1, 14, 14)),
    Specimen("u_net_dense_output", UNet, images(1, 6, 6), output=lambda logits: logits.amax((2, 3))),
    Specimen("inception_branches", Inception, images(2, 5, 5)),
    Specimen("dense_block", DenseBlock, images(2, 4, 4)),
    Specimen("squeeze_excite", SqueezeExcite, images(2, 6, 6)),
    Specimen("spatial_transformer", SpatialTransformer, images(1, 6, 6)),
    Specimen("deformable_convolution", Deformable, images(2, 5, 5)),
    Specimen("autoencoder", autoencoder, images(1, 8, 8), tags=tagged("reconstruction")),
    Specimen("variational_autoencoder", VariationalAutoencoder, images(12), output=0, tags=tagged("reconstruction")),
    Specimen("torchvision_resnet", resnet, images(3, 16, 16)),
    Specimen("torchvision_densenet", densenet, images(3, 16, 16)),
    Specimen("torchvision_mobilenet_v3", mobilenet, images(3, 16, 16)),
    Specimen("torchvision_vit", vit, images(3, 8, 8)),
    Specimen("torchvision_convnext", convnext, images(3, 16, 16)),
    Specimen("torchvision_swin", swin, images(3, 8, 8)),
    Specimen("torchvision_swin_v2", swin_v2, images(3, 8, 8)),
)
