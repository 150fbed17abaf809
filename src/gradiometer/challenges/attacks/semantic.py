"""Semantic attacks: changes that a person sees at once and still names the object, and no gradient is needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.challenges.attacks.applying import check_labels, predict
from gradiometer.challenges.colour_space import from_hsv, to_hsv
from gradiometer.challenges.corruptions import check_unit
from gradiometer.challenges.corruptions.draws import Draws
from gradiometer.errors import InputError


def negative(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The negative image, 1 - x. In 8 bits, twice is once more the original.

    Source: Hosseini, Xiao, Jaiswal and Poovendran, "On the Limitation of Convolutional Neural Networks in Recognizing
    Negative Images", ICMLA 2017.

    Args:
        model: Not asked.
        images: Floating point (B, K, H, W) in [0, 1].
        labels: Not used.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If the images are out of range.
    """
    del model, labels  # every attack takes them
    check_unit(images)
    return 1 - images


def colour_shift(model: nn.Module, images: Tensor, labels: Tensor, trials: int = 1000, seed: int = 0) -> Tensor:
    """Random changes of hue and saturation, the brightness untouched, until the model errs.

    A trial turns the hue by any angle and adds to the saturation a number from a range that grows with the trials, so
    that small changes are tried first. The first one that changes the prediction is kept; an image for which none does
    comes back as it was.

    Source: Hosseini and Poovendran, "Semantic Adversarial Examples", CVPR Workshops 2018.

    Args:
        model: Maps images in [0, 1] to logits (B, C); in eval mode. Left as found.
        images: Floating point (B, 3, H, W) in [0, 1].
        labels: int64 (B,), the classes to lead away from.
        trials: At most so many for each image, at least 1.
        seed: Seeds the trials, together with each image.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or trials are out of range, or the images are grey.
        ModelError: If the model is in train mode or does not return logits (B, C).
    """
    check_unit(images)
    check_labels(images, labels)
    if images.shape[1] != 3:
        raise InputError(
            f"a shift of colours needs 3 channels, got {images.shape[1]}; take the negative attack for grey"
        )
    given.whole("trials", trials)
    turns, shifts = Draws(images, "colour_shift", seed).uniform(trials, 2).unbind(dim=2)
    hue, saturation, value = to_hsv(images).unbind(dim=1)
    found = images.clone()
    left = torch.nonzero(predict(model, images) == labels)[:, 0]
    for trial in range(trials):
        if not len(left):
            break
        shift = (2 * shifts[left, trial] - 1) * (trial + 1) / trials
        shifted = from_hsv(
            torch.stack(
                [
                    (hue[left] + turns[left, trial].view(-1, 1, 1)) % 1,
                    (saturation[left] + shift.view(-1, 1, 1)).clamp(0, 1),
                    value[left],
                ],
                dim=1,
            )
        )
        wrong = predict(model, shifted) != labels[left]
        found[left[wrong]] = shifted[wrong]
        left = left[~wrong]
    return found.clamp(0, 1)
