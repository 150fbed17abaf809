"""The networks that the instrument is measured on. A new one is one more entry of `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer import ConfoundingLabel
from gradiometer.gradients import Loss, Objective
from gradiometer.models.densenet import densenet
from gradiometer.models.resnet import resnet18, resnet20

CIFAR, PHOTOGRAPH = (3, 32, 32), (3, 224, 224)


def confounding_loss(outputs: Tensor, _: Any) -> Tensor:
    """Binary cross-entropy between logits (B, C) and the label of all ones, the mean over classes: (B,)."""
    target = torch.ones_like(outputs)
    return nn.functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)


def images(shape: tuple[int, ...]) -> Callable[[int, torch.Generator], Tensor]:
    """A function that draws a batch of images in [0, 1]."""
    return lambda batch, generator: torch.rand(batch, *shape, generator=generator)


@dataclass(frozen=True)
class Network:
    """One network and the task that all contenders get.

    Attributes:
        title: Its name in tables.
        build: Makes the module, with random weights.
        inputs: Draws a batch of inputs from a number of samples and a generator.
        loss: What is backpropagated, as the peers take it: outputs and inputs to one value for each sample.
        objective: The same as the instrument takes it.
    """

    title: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor] = field(default_factory=lambda: images(CIFAR))
    loss: Loss = confounding_loss
    objective: Objective | Loss = field(default_factory=ConfoundingLabel)

    def make(self, seed: int) -> nn.Module:
        """The module in evaluation mode, the same for the same seed.

        A few batches in train mode give batch norm running statistics that fit the network, as in a trained one:
        without them the activations of a residual network grow from block to block.
        """
        torch.manual_seed(seed)
        model = self.build()
        model.train()
        with torch.no_grad():
            for _ in range(10):
                model(self.inputs(8, torch.Generator().manual_seed(seed)))
        return model.eval()

    def draw(self, batch: int, seed: int) -> Tensor:
        """A batch of inputs, the same for the same seed."""
        return self.inputs(batch, torch.Generator().manual_seed(seed))


def _tiny() -> nn.Module:
    """A network with every kind of layer of the others, for a quick look at whether all contenders run."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def _torchvision(name: str) -> Callable[[], nn.Module]:
    """A network of torchvision with random weights."""

    def build() -> nn.Module:
        import torchvision

        model: nn.Module = getattr(torchvision.models, name)(weights=None)
        return model

    return build


def _timm(name: str) -> Callable[[], nn.Module]:
    """A network of timm with random weights."""

    def build() -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name, pretrained=False)
        return model

    return build


NETWORKS: dict[str, Network] = {
    "resnet20": Network("ResNet-20", resnet20),
    "resnet18": Network("ResNet-18", resnet18),
    "densenet-bc-40-12": Network("DenseNet-BC-40-12", lambda: densenet(40, 12)),
    "resnet50": Network("ResNet-50 at 224 px", _torchvision("resnet50"), images(PHOTOGRAPH)),
    "mobilenet-v3": Network("MobileNetV3 large at 224 px", _torchvision("mobilenet_v3_large"), images(PHOTOGRAPH)),
    "vit-s-16": Network("ViT-S/16 at 224 px", _timm("vit_small_patch16_224"), images(PHOTOGRAPH)),
    "swin-t": Network("Swin-T at 224 px", _torchvision("swin_t"), images(PHOTOGRAPH)),
    "convnext-t": Network("ConvNeXt-T at 224 px", _torchvision("convnext_tiny"), images(PHOTOGRAPH)),
    "tiny": Network("a tiny convolutional network", _tiny, images((3, 8, 8))),
}

#: What is measured when nothing else is asked for.
DEFAULT = ("resnet20", "resnet18", "densenet-bc-40-12")
