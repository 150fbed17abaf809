"""Information against uncertainty: what a network looks at, and where it would have to change.

    python examples/information_and_uncertainty.py --out lecture

Grad-CAM weighs the activations of a layer by the gradients of the predicted logit with respect to them: the evidence
for a class (Selvaraju et al., "Grad-CAM", ICCV 2017). The gradient of the layer's weight tells something else. With a
the input of the layer, e the gradient at its output and G the gradient of its weight, the squared norm of G is the
sum over positions p of <e_p, layer(a; G)_p>: so the uncertainty that is read off this layer has a place in the image.
Here a bright bar is put into digits, which no training image has, and both are asked how much of them lies in it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import digits
import drawing
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gradiometer import ConfoundingLabel, Gradiometer, data
from gradiometer.gradients import Objective
from gradiometer.reports import figures

SIZE = 16
LAYER = "conv2"
BAR = (slice(1, 4), slice(1, 15))
"""Rows and columns of the bar, in pixels."""

BELOW = (slice(4, 6), slice(1, 15))
"""Those of the strip below it, where it meets the digit."""

OBJECTIVE: Objective = ConfoundingLabel(reading="softmax")
EPOCHS = 30
SHOWN = 2
"""Images that are drawn, beside the mean of all."""


def caught(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Input and output (B, K, H, W) of the layer, and the logits (B, C); the output can be differentiated by."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        kept.extend((arguments[0], output))

    handle = network.get_submodule(LAYER).register_forward_hook(keep)
    try:
        logits = network(images)
    finally:
        handle.remove()
    return kept[0].detach(), kept[1], logits


def information(network: nn.Module, images: Tensor) -> Tensor:
    """Grad-CAM of the predicted class (B, H, W), 0 or more."""
    _, outputs, logits = caught(network, images)
    (slopes,) = torch.autograd.grad(logits.max(1).values.sum(), outputs)
    weighted = slopes.mean((2, 3), keepdim=True) * outputs.detach().relu()
    return weighted.sum(1).relu()


def energy(network: nn.Module, images: Tensor) -> Tensor:
    """Where the squared norm of the gradient of the layer's weight comes from (B, H, W); its sum is that norm."""
    inputs, outputs, logits = caught(network, images)
    # The objective gives its slope at the logits in closed form; the rest is one backward pass.
    (errors,) = torch.autograd.grad(logits, outputs, OBJECTIVE.seeds(logits.detach(), images)[0].to(logits))
    name = f"{LAYER}.weight"
    gradients = Gradiometer(network, OBJECTIVE, name).gradients(images)[name]
    layer = network.get_submodule(LAYER)
    assert isinstance(layer, nn.Conv2d)
    return torch.stack(
        [
            (F.conv2d(one[None], gradient, None, layer.stride, layer.padding)[0] * error).sum(0)
            for one, gradient, error in zip(inputs, gradients, errors, strict=True)
        ]
    )


def shares(maps: Tensor) -> Tensor:
    """The positive part of each map (B, H, W), divided by its sum; zeros for a map without one."""
    positive = maps.detach().clamp_min(0)
    return positive / positive.sum((1, 2), keepdim=True).clamp_min(1e-30)


def within(maps: Tensor, place: tuple[slice, slice]) -> float:
    """Share of the positive part of a map (B, H, W) that lies in a place, mean over images."""
    return float(shares(maps)[:, *place].sum((1, 2)).mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the network, draw both maps for a few images, and write how much of each lies in the bar."""
    options = drawing.parser(__doc__).parse_args(arguments)
    count, epochs = (16, 2) if options.quick else (400, EPOCHS)
    parts = data.split(data.load("digits", size=SIZE), {"known": 0.5, "test": 0.5}, seed=0)
    network, accuracy = digits.network(parts, epochs)
    plain = data.to_unit(parts["test"].images[:count])
    barred = plain.clone()
    barred[:, :, *BAR] = 1.0
    sets = {"digit": plain, "with a bar": barred}
    meter = Gradiometer(network, OBJECTIVE, f"{LAYER}.weight")
    readings = {name: meter.squared_norms(images) for name, images in sets.items()}
    maps = {
        name: {"information": information(network, images), "uncertainty": energy(network, images)}
        for name, images in sets.items()
    }
    both = torch.cat([found.values[:, 0] for found in readings.values()]).numpy()
    places = {"bar": BAR, "below": BELOW}
    record = {
        "settings": {"size": SIZE, "layer": LAYER, "images": count, "epochs": epochs, "seed": 0},
        "accuracy": accuracy,
        "accuracy_with_a_bar": float(
            (readings["with a bar"].outputs.argmax(1) == parts["test"].labels[:count]).float().mean()
        ),
        "area": {name: float(torch.ones(SIZE, SIZE)[place].sum() / SIZE**2) for name, place in places.items()},
        "share": {
            name: {what: {where: within(found, place) for where, place in places.items()} for what, found in of.items()}
            for name, of in maps.items()
        },
        "auroc_of_a_larger_norm_for_the_bar": float(roc_auc_score(np.repeat([0, 1], count), both)),
        "median_squared_norm": {name: float(found.values.median()) for name, found in readings.items()},
        "difference_of_map_and_norm": max(
            float((of["uncertainty"].double().sum((1, 2)) / readings[name].values[:, 0] - 1).abs().max())
            for name, of in maps.items()
        ),
    }
    with figures.drawing():
        figure = draw(sets, maps)
    title = (
        "Digits without and with a bar, their Grad-CAM, and where the energy of the gradient of a layer's weight lies"
    )
    drawing.write(options.out, "information_and_uncertainty", figure, title, record)
    return 0


def draw(sets: Mapping[str, Tensor], maps: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """A row for each image and one for the mean of all shares; without and with the bar: image and both maps."""
    figure = figures.new_figure(8.2, 0.5 + 1.35 * (SHOWN + 1))
    axes = figure.subplots(SHOWN + 1, 6)
    for half, (name, images) in enumerate(sets.items()):
        columns = {name: images[:, 0], **{what: shares(found) for what, found in maps[name].items()}}
        for column, (what, found) in enumerate(columns.items(), 3 * half):
            pictures = [*found[:SHOWN], found.mean(0)]
            for ax, picture in zip(axes[:, column], pictures, strict=True):
                colours = "gray" if what == name else drawing.HEAT
                ax.imshow(picture.numpy(), cmap=colours, vmin=0, interpolation="none")
                ax.set(xticks=(), yticks=())
            axes[0, column].set_title(what, fontsize=9, loc="left")
    for row in range(SHOWN):
        axes[row, 0].set_ylabel(f"image {row + 1}")
    axes[SHOWN, 0].set_ylabel(f"mean of {len(sets['digit'])}")
    return figure


if __name__ == "__main__":
    sys.exit(main())
