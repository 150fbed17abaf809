"""Attacked images beside equally noisy ones, and the rule for which of them count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradiometer.challenges.attacks.applying import predict
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.data import Images, to_bytes, to_unit
from gradiometer.errors import InputError

LEE_DEVIATIONS: dict[str, dict[str, float]] = {
    "resnet34-cifar10": {"fgsm": 0.0625, "bim": 0.065, "deepfool": 0.0625, "carlini_wagner": 0.025},
    "resnet34-svhn": {"fgsm": 0.0625, "bim": 0.065, "deepfool": 0.126, "carlini_wagner": 0.05},
    "densenet-cifar10": {"fgsm": 0.0525, "bim": 0.0525, "deepfool": 0.026, "carlini_wagner": 0.015},
    "densenet-svhn": {"fgsm": 0.0525, "bim": 0.0525, "deepfool": 0.064, "carlini_wagner": 0.035},
}
"""Network and known set -> attack -> standard deviation of the noise, in units of the normalised input.

Source: the released code of Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution
Samples and Adversarial Attacks", NeurIPS 2018.
"""


@dataclass(frozen=True)
class AttackedSet:
    """Originals, their noisy and their attacked versions, row by row the same images.

    Attributes:
        clean: N originals.
        noisy: N noisy ones; with the clean ones they are the known side.
        attacked: N attacked ones, the challenge.
        deviation: Standard deviation of the noise of each channel (K,), in units of the pixel range.
        counts: Rows that passed each condition: `all`, `clean right`, `noisy right`, `attacked wrong`, `kept`.
        passed: Which of the N rows (N,) passed all of them.
    """

    clean: Images
    noisy: Images
    attacked: Images
    deviation: tuple[float, ...]
    counts: dict[str, int]
    passed: Tensor


def noise_control(images: Images, deviation: float | Sequence[float], *, seed: int = 0) -> Images:
    """Add normal noise, clip, and store in 8 bits.

    A detector that takes noise for an attack has learnt that images were changed, not that they were attacked.

    Args:
        images: The originals.
        deviation: Standard deviation in units of the pixel range, for all channels or for each.
        seed: Seeds the noise, together with each image.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: If the deviation is negative, or there is another number of channels.

    Example:
        >>> from gradiometer.data import load
        >>> digits = load("digits", limit=10)
        >>> bool((noise_control(digits, 0.0).images == digits.images).all())
        True
    """
    scale = torch.tensor(_each_channel(deviation, images)).view(1, -1, 1, 1)
    parts = [
        to_bytes(batch + scale * Draws(batch, "noise control", seed).normal(*batch.shape[1:]))
        for batch in images.batches(256)
    ]
    return replace(images, images=torch.cat(parts))


def matched_deviation(images: Images, attacked: Images) -> float:
    """The root of the mean square of all changes of pixels: noise of this deviation changes images as much.

    Args:
        images: The originals.
        attacked: Their attacked versions, row by row.

    Returns:
        In units of the pixel range.

    Raises:
        InputError: If the two have different shapes.
    """
    if images.images.shape != attacked.images.shape:
        raise InputError(
            f"originals {tuple(images.images.shape)} and attacked images {tuple(attacked.images.shape)} must have one "
            "shape, row by row"
        )
    change = attacked.images.to(torch.float64) - images.images.to(torch.float64)
    return float(change.square().mean().sqrt()) / 255


def lee_deviation(setting: str, attack: str, std: Sequence[float]) -> tuple[float, ...]:
    """A published deviation in units of the pixel range.

    Args:
        setting: Key in `LEE_DEVIATIONS`, such as `resnet34-cifar10`.
        attack: One of its attacks.
        std: Standard deviations (K,) by which the network divides its input.

    Returns:
        One deviation for each channel.

    Raises:
        InputError: If nothing was published for it.

    Example:
        >>> [round(value, 5) for value in lee_deviation("resnet34-cifar10", "fgsm", (0.2, 0.2, 0.2))]
        [0.0125, 0.0125, 0.0125]
    """
    if setting not in LEE_DEVIATIONS:
        raise InputError(f"no deviation was published for {setting!r}; there are {', '.join(LEE_DEVIATIONS)}")
    if attack not in LEE_DEVIATIONS[setting]:
        raise InputError(
            f"no deviation was published for the attack {attack!r}; there are {', '.join(LEE_DEVIATIONS[setting])}; "
            "leave it out to match the noise to the attack"
        )
    return tuple(LEE_DEVIATIONS[setting][attack] * value for value in std)


def attacked_set(
    model: nn.Module,
    clean: Images,
    attacked: Images,
    *,
    deviation: float | Sequence[float] | None = None,
    keep_all: bool = False,
    seed: int = 0,
) -> AttackedSet:
    """Put attacked images beside noisy ones, and keep the rows that say something.

    The rule of Lee et al. (2018): the model is right about the original and about the noisy image, and wrong about the
    attacked one. Known are then the clean and the noisy images together, twice as many as the attacked ones. An attack
    that changes the whole image, such as the negative, is matched by noise in which nothing can be read, and hardly a
    row is left: give a deviation for it.

    Args:
        model: Maps images in [0, 1] to logits (B, C); in eval mode. Left as found.
        clean: The originals, with their true classes.
        attacked: Their attacked versions, row by row, as `attack_images` gives them.
        deviation: Standard deviation of the noise, in units of the pixel range; matched to the attack when None.
        keep_all: Keep all rows; the counts are the same.
        seed: Seeds the noise.

    Returns:
        The three sets, and how many rows passed each condition.

    Raises:
        InputError: If the originals have no labels, the sets differ in shape, or no row is left.
        ModelError: If the model is in train mode or does not return logits.
    """
    if clean.labels is None:
        raise InputError("the rule needs the true classes, but the images have no labels; load them with labels")
    matched = matched_deviation(clean, attacked)
    each = _each_channel(matched if deviation is None else deviation, clean)
    noisy = noise_control(clean, each, seed=seed)
    right, calm, fooled = (_right(model, images, clean.labels) for images in (clean, noisy, attacked))
    fooled = ~fooled
    kept = right & calm & fooled
    counts = {
        "all": len(clean),
        "clean right": int(right.sum()),
        "noisy right": int(calm.sum()),
        "attacked wrong": int(fooled.sum()),
        "kept": int(kept.sum()),
    }
    if not keep_all and not kept.any():
        raise InputError(
            f"no row is left by the rule (clean right, noisy right, attacked wrong): {counts}; attack harder, add less "
            "noise, or pass keep_all=True"
        )
    rows = torch.ones_like(kept) if keep_all else kept
    return AttackedSet(clean.select(rows), noisy.select(rows), attacked.select(rows), each, counts, kept[rows])


def _each_channel(deviation: float | Sequence[float], images: Images) -> tuple[float, ...]:
    channels = images.images.shape[1]
    each = (float(deviation),) * channels if isinstance(deviation, int | float) else tuple(deviation)
    if len(each) != channels:
        raise InputError(f"{len(each)} deviations for images of {channels} channels; give one, or one for each channel")
    if not all(value >= 0 for value in each):
        raise InputError(f"a deviation must be at least 0, got {deviation}")
    return each


def _right(model: nn.Module, images: Images, labels: Tensor) -> Tensor:
    """Which images the model puts in their class."""
    found = torch.cat([predict(model, to_unit(part)) for part in images.images.split(256)])
    return found.cpu() == labels
