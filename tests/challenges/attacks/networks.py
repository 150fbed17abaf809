"""Networks to attack, and images to attack them with."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer.data import Images, load, split, to_unit


def network() -> nn.Module:
    """An untrained network with batch norm and dropout, for images of 1 x 8 x 8 pixels and five classes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).eval()


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    """Random images for it, and labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return to_unit(images), torch.randint(0, 5, (count,), generator=generator)


@cache
def trained() -> tuple[nn.Module, Images]:
    """A small network that reads digits, and 200 digits that it was not trained on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = split(load("digits"), {"fit": 0.5, "held_out": 0.12}, seed=0)
        fit = parts["fit"]
        assert fit.labels is not None
        images = to_unit(fit.images)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(images), fit.labels).backward()
            optimizer.step()
        model.zero_grad()
        return model.eval(), parts["held_out"]


def coloured(images: Images) -> tuple[Tensor, Tensor]:
    """Digits in colour: the label says whether the red or the green ink was used."""
    grey = to_unit(images.images)
    labels = torch.arange(len(grey)) % 2
    ink = torch.tensor([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1]])[labels]
    return grey * ink[:, :, None, None], labels


class RedOrGreen(nn.Module):
    """Tells red from green by the sum of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Two logits for each image."""
        return images.sum(dim=(2, 3))[:, :2]


def fgsm_by_hand(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """The formula of FGSM, one image at a time."""
    attacked = []
    for image, label in zip(images, labels, strict=True):
        x = image[None].clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(-model(x).log_softmax(1)[0, label], x)
        attacked.append((x.detach() + epsilon * gradient.sign()).clamp(0, 1))
    return torch.cat(attacked)
