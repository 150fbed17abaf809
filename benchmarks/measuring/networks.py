"""The networks that the instrument is measured on. A new one is one more entry of `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer import ConfoundingLabel
from gradiometer.gradients import Loss, Objective, Reconstruction
from gradiometer.models.densenet import densenet
from gradiometer.models.resnet import resnet18, resnet20
from measuring.statistic import ALIGNMENTS, INNER_PRODUCTS, SQUARED_NORMS, Statistic
from measuring.text import GRUClassifier, tokens

CIFAR, PHOTOGRAPH = (3, 32, 32), (3, 224, 224)

#: The weights of the auto-encoder's decoder, whose gradients GradCon constrains and reads.
CONSTRAINED = ("decoder.*.weight",)

#: Batches of networks for small images, and of those for photographs, which take a hundred times as long.
MANY, FEW = (1, 8, 64, 256), (1, 8)


def confounding_loss(outputs: Tensor, _: Any) -> Tensor:
    """Binary cross-entropy between logits (B, C) and the label of all ones, the mean over classes: (B,)."""
    target = torch.ones_like(outputs)
    return nn.functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").mean(1)


def reconstruction_loss(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Mean squared difference between reconstructions and images (B, K, H, W): (B,)."""
    return (outputs - inputs).square().flatten(1).mean(1)


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
        statistic: What is read of the gradients.
        batches: Batch sizes that are measured when nothing else is asked for.
        parameters: Globs of the parameters that are read. Bounds are those of the whole network all the same.
    """

    title: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor] = field(default_factory=lambda: images(CIFAR))
    loss: Loss = confounding_loss
    objective: Objective | Loss = field(default_factory=ConfoundingLabel)
    statistic: Statistic = SQUARED_NORMS
    batches: tuple[int, ...] = MANY
    parameters: tuple[str, ...] = ("*",)

    def make(self, seed: int, *, settle: bool = True) -> nn.Module:
        """The module in evaluation mode, the same for the same seed.

        Args:
            seed: Seed of the weights.
            settle: Whether a few batches in train mode give batch norm running statistics that fit the network, as in
                a trained one: without them the activations of a residual network grow from block to block.
        """
        torch.manual_seed(seed)
        model = self.build()
        model.train()
        with torch.no_grad():
            for _ in range(10 if settle else 0):
                model(self.inputs(8, torch.Generator().manual_seed(seed)))
        return model.eval()

    def freeze_others(self, model: nn.Module) -> None:
        """Freeze the parameters that are not read, for those that read what requires a gradient."""
        for name, parameter in model.named_parameters():
            if not any(fnmatchcase(name, pattern) for pattern in self.parameters):
                parameter.requires_grad_(requires_grad=False)

    def draw(self, batch: int, seed: int) -> Tensor:
        """A batch of inputs, the same for the same seed."""
        return self.inputs(batch, torch.Generator().manual_seed(seed))

    def reference(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What gradients of some parameters are multiplied with, by name; nothing where no inner product is read."""
        if not self.statistic.products:
            return {}
        generator = torch.Generator()
        found = {}
        for name, parameter in parameters.items():
            generator.manual_seed(sum(name.encode()))  # by name: a contender may read some of the parameters only
            found[name] = torch.randn(parameter.shape, generator=generator)
        return found


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


def _photograph(title: str, build: Callable[[], nn.Module], batches: tuple[int, ...] = FEW) -> Network:
    return Network(f"{title} at 224 px", build, images(PHOTOGRAPH), batches=batches)


def _gradcon(title: str, statistic: Statistic, parameters: tuple[str, ...] = ("*",)) -> Network:
    """The auto-encoder of GradCon for images of CIFAR-10."""

    def build() -> nn.Module:
        from gradiometer.anomaly import make_network  # late: the processes that measure memory need little else

        return make_network("cae", *CIFAR[:2])

    return Network(title, build, images(CIFAR), reconstruction_loss, Reconstruction(), statistic, parameters=parameters)


NETWORKS: dict[str, Network] = {
    "resnet20": Network("ResNet-20", resnet20),
    "resnet18": Network("ResNet-18", resnet18),
    "densenet-bc-40-12": Network("DenseNet-BC-40-12", lambda: densenet(40, 12)),
    "resnet50": _photograph("ResNet-50", _torchvision("resnet50")),
    "mobilenet-v3": _photograph("MobileNetV3 large", _torchvision("mobilenet_v3_large"), (1, 8, 64)),
    "vit-s-16": _photograph("ViT-S/16", _timm("vit_small_patch16_224")),
    "swin-t": _photograph("Swin-T", _torchvision("swin_t")),
    "convnext-t": _photograph("ConvNeXt-T", _torchvision("convnext_tiny")),
    "gru": Network("GRU text classifier", GRUClassifier, tokens),
    "gradcon": _gradcon("GradCon auto-encoder, inner products", INNER_PRODUCTS),
    "gradcon-alignments": _gradcon("GradCon auto-encoder, inner products and squared norms", ALIGNMENTS),
    "gradcon-constrained": _gradcon(
        "GradCon auto-encoder, inner products and squared norms of the constrained weights", ALIGNMENTS, CONSTRAINED
    ),
    "tiny": Network("a tiny convolutional network", _tiny, images((3, 8, 8)), batches=(4,)),
}

#: What is measured when nothing else is asked for.
DEFAULT = ("resnet20", "resnet18", "densenet-bc-40-12")
