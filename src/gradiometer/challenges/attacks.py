"""Adversarial attacks: FGSM through Foolbox, and any other one through a common call.

An attack works on pixels in [0, 1], so normalisation belongs inside the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from gradiometer.challenges.corruptions import check_unit
from gradiometer.data import Images, to_bytes, to_unit
from gradiometer.errors import DependencyError, InputError, ModelError


class Attack(Protocol):
    """Anything that changes images so that a model errs.

    `functools.partial(fgsm, epsilon=8 / 255)` is one; so is a function around a method of another library.
    """

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, /) -> Tensor:
        """Attack a batch.

        Args:
            model: Maps images in [0, 1] to logits (B, C); in eval mode.
            images: Floating point (B, K, H, W) in [0, 1].
            labels: int64 (B,), the true classes.

        Returns:
            Images of the same shape in [0, 1].
        """
        ...


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Fast gradient sign method: one step that raises the cross-entropy, `clip(x + epsilon * sign(dCE/dx), 0, 1)`.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015. Computed by
    Foolbox (extra `attacks`). The model is left as found, its `.grad` included.

    Args:
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: Floating point (B, K, H, W) in [0, 1].
        labels: int64 (B,), the true classes, 0 to C - 1.
        epsilon: Largest change of a pixel, in [0, 1]; 8/255 is usual.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or epsilon are out of range.
        ModelError: If the model is in train mode or does not return logits (B, C).
        DependencyError: If Foolbox is not installed.
    """
    if not 0 <= epsilon <= 1:
        raise InputError(f"epsilon must lie in [0, 1], in units of the pixel range, got {epsilon}; 8/255 is usual")
    check_unit(images)
    _check_labels(images, labels)
    try:
        from foolbox.attacks.fast_gradient_method import LinfFastGradientAttack
        from foolbox.models.pytorch import PyTorchModel
    except ImportError as error:
        raise DependencyError(
            "FGSM needs foolbox: install it with the extra `attacks`, pip install 'gradiometer[attacks]'"
        ) from error
    with _left_as_found(model, seed=0):
        classifier = PyTorchModel(_Logits(model, labels).eval(), bounds=(0, 1), device=images.device)
        step = LinfFastGradientAttack(random_start=False)
        attacked: Tensor = step.run(classifier, images.detach().clone(), labels.clone(), epsilon=epsilon)
    return attacked.detach()


def apply_attack(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 64,
    bound: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Apply any attack batch by batch and check what it returns; the model is left as found.

    While it runs, no parameter requires a gradient, which spares the work and keeps `.grad` untouched; afterwards
    `requires_grad`, train or eval mode of every module, buffers, and PyTorch's global random numbers are as before.

    Args:
        attack: What to apply.
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: Floating point (N, K, H, W) in [0, 1].
        labels: int64 (N,), the true classes.
        batch_size: Images that are attacked at once.
        bound: Largest change of a pixel that the attack may make (L-infinity), or None for any.
        seed: Seeds PyTorch's global generator for attacks that draw from it.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images or labels are out of range, or what the attack returns has another shape, leaves [0, 1],
            holds NaN, or exceeds the bound.
        ModelError: If the model is in train mode.
    """
    check_unit(images)
    _check_labels(images, labels)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    parts = []
    with _left_as_found(model, seed):
        for batch, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            attacked = attack(model, batch.detach().clone(), truth.clone()).detach().to(batch.dtype)
            _check_attacked(batch, attacked, bound)
            parts.append(attacked.clamp(0, 1))
    return torch.cat(parts)


def attack_images(
    attack: Attack,
    model: nn.Module,
    images: Images,
    *,
    batch_size: int = 64,
    bound: float | None = None,
    seed: int = 0,
) -> Images:
    """Attack labelled images and store the result in 8 bits, like the images it stands beside.

    Labels, names and base images stay. Rounding leaves a pixel that was a multiple of 1/255 unchanged, so FGSM with an
    epsilon of whole levels is exact; a minimal attack such as Carlini and Wagner's can lose its effect, which is part
    of what such an attack is worth on stored images.

    Args:
        attack: What to apply.
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: The originals, with labels.
        batch_size: Images that are attacked at once.
        bound: As for `apply_attack`; checked before rounding.
        seed: As for `apply_attack`.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: As `apply_attack`, or if the images have no labels.
        ModelError: If the model is in train mode.
    """
    if images.labels is None:
        raise InputError("an attack needs the true classes, but the images have no labels; load them with labels")
    labels = images.labels
    parts = [
        to_bytes(apply_attack(attack, model, to_unit(part), truth, batch_size=batch_size, bound=bound, seed=seed + row))
        for row, (part, truth) in enumerate(zip(images.images.split(batch_size), labels.split(batch_size), strict=True))
    ]
    return replace(images, images=torch.cat(parts))


class _Logits(nn.Module):
    """The model, with its outputs checked before a loss of another library stumbles over them."""

    def __init__(self, model: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.model = model
        self.highest = int(labels.max())

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(f"an attack needs logits (B, C), but the model returns {got}; wrap it so that it does")
        if self.highest >= logits.shape[1]:
            raise InputError(f"a label is {self.highest}, but the model knows the classes 0 to {logits.shape[1] - 1}")
        return logits


@contextmanager
def _left_as_found(model: nn.Module, seed: int) -> Iterator[None]:
    """Let an attack work on a model, with gradients for its inputs only, and put everything back."""
    training = [name or "the model itself" for name, module in model.named_modules() if module.training]
    if training:
        raise ModelError(
            f"{len(training)} modules are in train mode, the first is {training[0]}: batch normalisation and dropout "
            "would mix samples or draw at random; call model.eval() first"
        )
    kept = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    found = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        ):
            torch.manual_seed(seed)
            for parameter, _, _ in found:
                parameter.requires_grad_(False)
                parameter.grad = None  # set aside: a gradient that is there would be added to in place
            yield
    finally:
        for parameter, trainable, gradient in found:
            parameter.requires_grad_(trainable)
            parameter.grad = gradient
        for module in model.modules():
            module.training = False
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in kept and not torch.equal(buffer, kept[name]):
                    buffer.copy_(kept[name])


def _check_labels(images: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"labels must be int64 of shape ({len(images)},), one for each image, "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0:
        raise InputError(f"labels start at 0, but one is {int(labels.min())}")


def _check_attacked(images: Tensor, attacked: Tensor, bound: float | None) -> None:
    slack = max(1e-6, 2 * torch.finfo(images.dtype).eps)  # x + epsilon - x is not epsilon in floating point
    if attacked.shape != images.shape:
        raise InputError(f"the attack turned images {tuple(images.shape)} into {tuple(attacked.shape)}")
    low, high = float(attacked.min()), float(attacked.max())
    if not (low >= -slack and high <= 1 + slack):
        raise InputError(f"the attack returned pixels from {low:g} to {high:g}; it must stay in [0, 1] and free of NaN")
    change = float((attacked - images).abs().max())
    if bound is not None and change > bound + slack:
        raise InputError(f"the attack changed a pixel by {change:g}, more than the bound {bound:g}; tell it the bound")
