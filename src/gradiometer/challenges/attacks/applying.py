"""Applying any attack batch by batch: what it may do to images and model, and what is checked.

An attack works on pixels in [0, 1], so normalisation belongs inside the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from typing import Protocol

import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.challenges.attacks.store import Store
from gradiometer.challenges.corruptions import check_unit
from gradiometer.data import Images, to_bytes, to_unit
from gradiometer.errors import InputError, ModelError, of_the_model


class Attack(Protocol):
    """Anything that changes images so that a model errs.

    `attack("pgd", steps=40)` is one; so is a function around a method of another library.
    """

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, /) -> Tensor:
        """Attack a batch.

        Args:
            model: Maps images in [0, 1] to logits (B, C); in eval mode.
            images: Floating point (B, K, H, W) in [0, 1].
            labels: int64 (B,), the classes to lead away from.

        Returns:
            Images of the same shape in [0, 1].
        """
        ...


def apply_attack(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    batch_size: int = 64,
    bound: float | None = None,
    seed: int = 0,
    eight_bit: bool = False,
) -> Tensor:
    """Apply any attack batch by batch and check what it returns; the model is left as found.

    While it runs, no parameter requires a gradient, which spares the work and keeps `.grad` untouched; afterwards
    `requires_grad`, train or eval mode of every module, buffers, and PyTorch's global random numbers are as before.

    Args:
        attack: What to apply.
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: Floating point (N, K, H, W) in [0, 1].
        labels: int64 (N,), the classes to lead away from; the predicted ones when None.
        batch_size: Images that are attacked at once.
        bound: Largest change of a pixel that the attack may make (L-infinity), or None for that of the attack, if it
            has one.
        seed: Seeds PyTorch's global generator for attacks that draw from it.
        eight_bit: Round to 256 levels, as storing does; the bound is checked before.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images or labels are out of range, or what the attack returns has another shape, leaves [0, 1],
            holds NaN, or exceeds the bound.
        ModelError: If the model is in train mode, or has to predict and does not return logits (B, C).
    """
    check_unit(images)
    given.whole("batch_size", batch_size)
    if labels is None:
        labels = predict(model, images, batch_size=batch_size)
    check_labels(images, labels)
    limit = getattr(attack, "bound", None) if bound is None else bound
    parts = []
    with lent(model, seed):
        for batch, truth in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            attacked = attack(model, batch.detach().clone(), truth.clone()).detach().to(batch.dtype)
            _check_attacked(batch, attacked, limit)
            parts.append(attacked.clamp(0, 1))
    found = torch.cat(parts)
    return found.mul(255).round().div(255) if eight_bit else found


def attack_images(
    attack: Attack,
    model: nn.Module,
    images: Images,
    *,
    labels: Tensor | None = None,
    batch_size: int = 64,
    bound: float | None = None,
    seed: int = 0,
    cache: str | PathLike[str] | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """Attack images and store the result in 8 bits, like the images it stands beside.

    Labels, names and base images stay. Rounding leaves a pixel that was a multiple of 1/255 unchanged, so FGSM with an
    epsilon of whole levels is exact; a minimal attack such as Carlini and Wagner's can lose its effect, which is part
    of what such an attack is worth on stored images.

    Args:
        attack: What to apply.
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: The originals.
        labels: int64 (N,), the classes to lead away from; those of the images when None, and the predicted ones where
            the images have none.
        batch_size: Images that are attacked at once.
        bound: As for `apply_attack`; checked before rounding.
        seed: As for `apply_attack`.
        cache: A folder in which finished batches are kept, so that an interrupted run goes on where it was and a
            second one has nothing to do. A batch is found again by a hash of the model, the attack with its settings,
            and the images.
        name: What the attack is, for the cache, when it does not say so itself: name and settings in one string.
        progress: Told after each batch how many images are done, and how many there are.

    Returns:
        As many images, in the same order.

    Raises:
        InputError: As `apply_attack`, or if the cache is asked for and nothing says what the attack is.
        ModelError: As `apply_attack`.
        ArtefactError: If a batch of the cache cannot be written.
    """
    given.whole("batch_size", batch_size)
    if labels is None:
        labels = images.labels
    if labels is None:
        labels = torch.cat([predict(model, batch, batch_size=batch_size) for batch in images.batches(batch_size)])
    if len(labels) != len(images):
        raise InputError(f"{len(images)} images but {len(labels)} labels; give one for each image")
    store = None if cache is None else Store.of(cache, model, _described(attack, name))
    here = device_of(model, images.images)
    parts = []
    for row, (pixels, truth) in enumerate(
        zip(images.images.split(batch_size), labels.split(batch_size), strict=True), seed
    ):
        done = None if store is None else store.find(pixels, truth, row)
        if done is None:
            unit, truth_there = to_unit(pixels.to(here)), truth.to(here)
            attacked = apply_attack(attack, model, unit, truth_there, batch_size=batch_size, bound=bound, seed=row)
            done = to_bytes(attacked).to(pixels.device)
            if store is not None:
                store.keep(done, pixels, truth, row)
        parts.append(done)
        if progress is not None:
            progress(sum(map(len, parts)), len(images))
    return replace(images, images=torch.cat(parts))


def predict(model: nn.Module, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """The class that a model predicts for each image; the model is left as found.

    Args:
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: Floating point (N, K, H, W) in [0, 1].
        batch_size: Images at once.

    Returns:
        int64 (N,), where the images are.

    Raises:
        ModelError: If the model is in train mode or does not return logits (B, C).
    """
    parts = []
    here = device_of(model, images)
    with lent(model), torch.no_grad():
        for batch in images.split(batch_size):
            with of_the_model(model, batch):
                logits = model(batch.to(here))
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
                got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ModelError(
                    f"a prediction needs logits (B, C), but the model returns {got}; wrap it so that it does"
                )
            parts.append(logits.argmax(dim=1).to(images.device))
    return torch.cat(parts)


def device_of(model: nn.Module, images: Tensor) -> torch.device:
    """The device of a model; that of the images when the model has no parameters."""
    first = next(model.parameters(), None)
    return images.device if first is None else first.device


@contextmanager
def lent(model: nn.Module, seed: int | None = None) -> Iterator[None]:
    """Lend a model to an attack, with gradients for its inputs only, and put everything back.

    Args:
        model: In eval mode.
        seed: Seeds PyTorch's global generator, whose state is put back afterwards; None leaves it alone.

    Raises:
        ModelError: If the model is in train mode.
    """
    training = [name or "the model itself" for name, module in model.named_modules() if module.training]
    if training:
        raise ModelError(
            f"{len(training)} modules are in train mode, the first is {training[0]}: batch normalisation and dropout "
            "would mix samples or draw at random; call model.eval() first"
        )
    kept = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    found = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    devices = range(torch.cuda.device_count())
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=devices, enabled=seed is not None),
        ):
            if seed is not None:
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


def check_labels(images: Tensor, labels: Tensor) -> None:
    """Refuse anything but one class number for each image.

    Raises:
        InputError: If type, shape or range is another.
    """
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


def _described(attack: Attack, name: str | None) -> str:
    description = getattr(attack, "description", None) if name is None else name
    if not isinstance(description, str) or not description:
        raise InputError(
            "the cache must know what the attack is; take one of ours by name, attack('pgd', steps=40), or say it with "
            "name='my attack, 40 steps': another name for every other setting"
        )
    return description
