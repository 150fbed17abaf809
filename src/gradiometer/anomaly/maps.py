"""Where an image is abnormal: the score, spread over the positions that make it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer.anomaly.detector import GradCon
from gradiometer.anomaly.losses import reconstruction_loss
from gradiometer.detectors.checks import check_model, place_of
from gradiometer.detectors.inputs import batches, move
from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.factors import exact

_NONE = 1e-300
"""Squared length of a gradient that is none."""

Floats = npt.NDArray[np.float64]
Convolution = nn.Conv2d | nn.ConvTranspose2d

_RESOLUTION = 1000
"""Quantiles of the known pixels that a scale keeps."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What each position of each image adds.

    Attributes:
        reconstruction: Squared error, mean over channels (B, H, W); its mean over positions is the reconstruction loss.
        alignment: Share in the mean cosine of the gradients with their reference (B, H, W); its sum over positions is
            the mean cosine. Low values are abnormal.
        energy: Share in the squared length of the gradients (B, H, W), mean over the layers, each in units of its own
            median among the known images.
    """

    reconstruction: Floats
    alignment: Floats
    energy: Floats

    def __len__(self) -> int:
        """Number of images B."""
        return len(self.reconstruction)

    def combined(self, beta: float) -> Floats:
        """The published score by position (B, H, W); its mean over positions is the score."""
        positions = self.reconstruction[0].size
        found: Floats = self.reconstruction - beta * positions * self.alignment
        return found

    def smoothed(self, pixels: float) -> Maps:
        """The same maps after a Gaussian filter with a standard deviation in pixels.

        Args:
            pixels: 0 leaves them as they are.

        Raises:
            InputError: The deviation is negative.
        """
        from scipy.ndimage import gaussian_filter

        if pixels < 0:
            raise InputError(f"maps cannot be smoothed by {pixels} pixels; give 0 or more")
        parts = (self.reconstruction, self.alignment, self.energy)
        return Maps(*(gaussian_filter(part, (0, pixels, pixels)) for part in parts))


@dataclass(frozen=True, eq=False)
class Scale:
    """One scale for the maps of all images: how unusual a value is among the pixels of known images.

    Attributes:
        quantiles: Ascending values (Q,) that divide the known pixels into equal parts.

    Example:
        >>> scale = Scale.fit(np.arange(100.0).reshape(1, 10, 10))
        >>> scale.level(np.array([-5.0, 49.5, 200.0])).round(2).tolist()
        [0.0, 0.5, 1.0]
    """

    quantiles: Floats

    @classmethod
    def fit(cls, known: Floats) -> Scale:
        """Learn it from the maps (N, H, W) of known images, best ones that the network was not trained on.

        Raises:
            InputError: There is no pixel, or one that is not finite.
        """
        values = np.asarray(known, dtype=np.float64)
        if not values.size or not np.isfinite(values).all():
            raise InputError(f"a scale needs the finite maps of some known images, got shape {values.shape}")
        return cls(np.quantile(values, np.linspace(0, 1, _RESOLUTION + 1)))

    def level(self, values: npt.ArrayLike) -> Floats:
        """Share of the known pixels that are below each value, in [0, 1]; the same number means the same everywhere."""
        shares = np.linspace(0, 1, len(self.quantiles))
        levels: Floats = np.interp(np.asarray(values, dtype=np.float64), self.quantiles, shares)
        return levels


@dataclass(frozen=True, eq=False)
class Spots:
    """The most unusual position of a map, for defects that are small beside the image.

    Each position is standardised by what normal images of one arrangement have there: an edge that is hard to
    reconstruct in every image is no finding.

    Attributes:
        mean: Mean of the maps of known images (H, W).
        deviation: Their standard deviation (H, W), above zero.

    Example:
        >>> spots = Spots.fit(np.random.default_rng(0).normal(size=(50, 4, 4)))
        >>> quiet, loud = np.zeros((4, 4)), np.zeros((4, 4))
        >>> loud[1, 2] = 9.0
        >>> first, second = spots.score(np.stack([quiet, loud]))
        >>> bool(second > 5 > first)
        True
    """

    mean: Floats
    deviation: Floats

    @classmethod
    def fit(cls, known: Floats) -> Spots:
        """Learn from the maps (N, H, W) of known images that the network was not trained on.

        Raises:
            InputError: Fewer than two maps, or values that are not finite.
        """
        values = np.asarray(known, dtype=np.float64)
        if values.ndim != 3 or len(values) < 2 or not np.isfinite(values).all():
            raise InputError(f"spots need the finite maps (N, H, W) of two or more known images, got {values.shape}")
        deviation = values.std(0)
        # A position that never varies gets the smallest spread of any other.
        positive = deviation[deviation > 0]
        return cls(values.mean(0), np.maximum(deviation, positive.min() if len(positive) else 1.0))

    def standardised(self, maps: Floats) -> Floats:
        """Maps (B, H, W) in standard deviations of normal images from their mean, position by position."""
        found: Floats = (maps - self.mean) / self.deviation
        return found

    def score(self, maps: Floats) -> Floats:
        """The largest standardised value (B,) of each map (B, H, W)."""
        scores: Floats = self.standardised(maps).max((1, 2))
        return scores


def maps_of(detector: GradCon, x: Any) -> Maps:
    """Spread the score of each image over its positions.

    With a the input of a layer and e the gradient at its output, the inner product of the gradient of its weight with
    a reference R is `sum_p <e_p, (layer(a; R))_p>` over the positions p of the output, and its squared length is the
    same with the gradient in place of R. Each position of a small layer is spread evenly over the pixels under it.

    Args:
        detector: Fitted, on an auto-encoder whose constrained parameters are weights of convolutions.
        x: Images, in any form that `fit` takes.

    Returns:
        The maps, at the size of the images.

    Raises:
        InputError: As for `GradCon.predict`.
        ModelError: A constrained parameter is not the weight of a convolution in two dimensions.
    """
    check_model(detector.model)
    typical = _typical(detector)
    device, dtype = place_of(detector.model)
    parts: list[list[Tensor]] = []
    for batch in batches(x, detector.batch_size, "inputs"):
        inputs = move(batch.inputs, device, dtype)
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            raise InputError("maps are made of images (B, K, H, W)")
        detector.predict(inputs[:1])  # refuses what is no image of this detector
        parts.append(_maps(detector, inputs, typical))
    return Maps(*(torch.cat([part[at] for part in parts]).cpu().numpy() for at in range(3)))


def _maps(detector: GradCon, x: Tensor, typical: dict[str, float]) -> list[Tensor]:
    """Reconstruction, alignment and energy of a batch."""
    outputs, layers = _backward(detector, x)
    gradients = detector.meter.gradients(x)
    height, width = x.shape[-2:]
    alignment = exact(torch.zeros(len(x), height, width, device=x.device))
    energy = torch.zeros_like(alignment)
    for name, (layer, inputs, errors) in layers.items():
        gradient = gradients[name]
        lengths = exact(gradient.flatten(1).norm(dim=1))
        products = exact((_apply(layer, inputs, detector.reference[name].to(errors.device)) * errors).sum(1))
        squares = exact((_each(layer, inputs, gradient) * errors).sum(1))
        # A gradient without length points nowhere.
        shares = products / torch.where(lengths > 0, lengths, torch.inf).view(-1, 1, 1)
        alignment += _spread(shares, height, width) / len(layers)
        energy += _spread(squares / typical[name], height, width) / len(layers)
    return [exact(x - outputs).square().mean(1), alignment, energy]


def _backward(detector: GradCon, x: Tensor) -> tuple[Tensor, dict[str, tuple[Convolution, Tensor, Tensor]]]:
    """Reconstructions, and for each constrained layer the layer, its input and the gradient at its output."""
    owners = _owners(detector)
    caught: dict[str, tuple[Tensor, Tensor]] = {}

    def hook_for(name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            # Frozen weights have no history; a tensor of zeros that is added has one.
            anchor = torch.zeros_like(output, requires_grad=True)
            caught[name] = arguments[0].detach(), anchor
            return output + anchor

        return hook

    handles = [layer.register_forward_hook(hook_for(name)) for name, layer in owners.items()]
    try:
        with torch.enable_grad():
            outputs = detector.model(x)
            loss = reconstruction_loss(x, outputs).sum()
            errors = torch.autograd.grad(loss, [caught[name][1] for name in owners])
    finally:
        for handle in handles:
            handle.remove()
    found = {name: (owners[name], caught[name][0], error) for name, error in zip(owners, errors, strict=True)}
    return outputs.detach(), found


def _owners(detector: GradCon) -> dict[str, Convolution]:
    """The convolution that each constrained weight belongs to, by name of the weight."""
    modules = dict(detector.model.named_modules())
    found: dict[str, Convolution] = {}
    for name in detector.reference:
        home, _, entry = name.rpartition(".")
        module = modules[home]
        if entry != "weight" or not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            raise ModelError(
                f"{name!r} is a {entry} of a {type(module).__name__}, which has no positions; maps need layers= that "
                "names weights of convolutions"
            )
        found[name] = module
    return found


def _apply(layer: Convolution, inputs: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """The layer with another weight and without a bias."""
    groups *= layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        padding, extra = _pair(layer.padding), _pair(layer.output_padding)
        return F.conv_transpose2d(inputs, weight, None, layer.stride, padding, extra, groups, layer.dilation)
    if layer.padding_mode != "zeros":
        raise ModelError(f"maps are not made for convolutions with padding by {layer.padding_mode!r}, only with zeros")
    return F.conv2d(inputs, weight, None, layer.stride, layer.padding, layer.dilation, groups)


def _pair(values: Any) -> tuple[int, int]:
    """Padding of a transposed convolution, which is always a number for each side."""
    return int(values[0]), int(values[1])


def _each(layer: Convolution, inputs: Tensor, weights: Tensor) -> Tensor:
    """The layer with a weight of its own for each sample (B, *shape)."""
    together = _apply(layer, inputs.reshape(1, -1, *inputs.shape[2:]), weights.flatten(0, 1), groups=len(inputs))
    return together.view(len(inputs), -1, *together.shape[2:])


def _typical(detector: GradCon) -> dict[str, float]:
    """Median squared length of the gradient of each constrained parameter among the known images, by name."""
    medians = detector.typical()
    # What is typical is the exponential of a logarithm with a floor, so that no gradient at all is not quite 0.
    return {name: value if value > _NONE else 1.0 for name, value in zip(detector.reference, medians, strict=True)}


def _spread(values: Tensor, height: int, width: int) -> Tensor:
    """Maps (B, h, w) at another size, each position evenly over the area that it covers; sums stay."""
    down, across = _coverage(values.shape[1], height), _coverage(values.shape[2], width)
    return down.to(values) @ values @ across.to(values).mT


def _coverage(positions: int, pixels: int) -> Tensor:
    """Share of each position that falls on each pixel, (pixels, positions); columns add up to 1."""
    return torch.from_numpy(np.stack(list(_columns(positions, pixels)), axis=1))


def _columns(positions: int, pixels: int) -> Iterator[Floats]:
    edges = np.linspace(0, positions, pixels + 1)
    for position in range(positions):
        inside = np.clip(edges, position, position + 1)
        yield np.diff(inside)
