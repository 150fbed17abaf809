"""Attacks that follow the gradient of a loss with respect to the image: FGSM, BIM, PGD, least likely class, C&W.

They are computed by Foolbox (extra `attacks`), on pixels in [0, 1]. The model is left as found, its `.grad` included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.challenges.attacks.applying import check_labels, lent
from gradiometer.challenges.corruptions import check_unit
from gradiometer.errors import DependencyError, InputError, ModelError, of_the_model


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float = 8 / 255) -> Tensor:
    """Fast gradient sign method: one step that raises the cross-entropy, `clip(x + epsilon * sign(dCE/dx), 0, 1)`.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015.

    Args:
        model: Maps images in [0, 1] to logits (B, C); in eval mode.
        images: Floating point (B, K, H, W) in [0, 1].
        labels: int64 (B,), the classes to lead away from, 0 to C - 1.
        epsilon: Largest change of a pixel, in [0, 1].

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or epsilon are out of range.
        ModelError: If the model is in train mode or does not return logits (B, C).
        DependencyError: If Foolbox is not installed.
    """
    _check_pixels("epsilon", epsilon)
    attack = _foolbox("FGSM").attacks.LinfFastGradientAttack(random_start=False)
    return _away(model, images, labels, attack, epsilon)


def bim(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float = 8 / 255, step: float = 1 / 255, steps: int = 10
) -> Tensor:
    """Basic iterative method: steps of FGSM, each brought back to at most epsilon from the original and to [0, 1].

    Source: Kurakin, Goodfellow and Bengio, "Adversarial Examples in the Physical World", ICLR Workshops 2017.

    Args:
        model: As for `fgsm`.
        images: As for `fgsm`.
        labels: As for `fgsm`.
        epsilon: Largest change of a pixel, in [0, 1].
        step: Change of a pixel in one step.
        steps: How many, at least 1.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or settings are out of range.
        ModelError: As `fgsm`.
        DependencyError: If Foolbox is not installed.
    """
    attack = _iterative("BIM", epsilon, step, steps, random_start=False)
    return _away(model, images, labels, attack, epsilon)


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float = 8 / 255, step: float = 2 / 255, steps: int = 20
) -> Tensor:
    """Projected gradient descent: the basic iterative method from a random start in the epsilon-ball.

    The start is drawn from PyTorch's global generator, so it depends on the batch an image is in.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.

    Args:
        model: As for `fgsm`.
        images: As for `fgsm`.
        labels: As for `fgsm`.
        epsilon: Largest change of a pixel, in [0, 1].
        step: Change of a pixel in one step.
        steps: How many, at least 1.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or settings are out of range.
        ModelError: As `fgsm`.
        DependencyError: If Foolbox is not installed.
    """
    attack = _iterative("PGD", epsilon, step, steps, random_start=True)
    return _away(model, images, labels, attack, epsilon)


def least_likely(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float = 8 / 255, step: float = 1 / 255, steps: int = 10
) -> Tensor:
    """Iterative least-likely class: steps that lower the cross-entropy with the class that was least likely at first.

    Source: Kurakin, Goodfellow and Bengio, "Adversarial Examples in the Physical World", ICLR Workshops 2017.

    Args:
        model: As for `fgsm`.
        images: As for `fgsm`.
        labels: Not used; the model says which class is least likely.
        epsilon: Largest change of a pixel, in [0, 1].
        step: Change of a pixel in one step.
        steps: How many, at least 1.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or settings are out of range.
        ModelError: As `fgsm`.
        DependencyError: If Foolbox is not installed.
    """
    attack = _iterative("the least-likely-class attack", epsilon, step, steps, random_start=False)
    towards = _foolbox("").criteria.TargetedMisclassification

    def run(classifier: Any, batch: Tensor) -> Tensor:
        targets = classifier(batch).argmin(dim=1)
        found: Tensor = attack.run(classifier, batch, towards(targets), epsilon=epsilon)
        return found

    return _run(model, images, labels, run)


def carlini_wagner(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    confidence: float = 0.0,
    constant: float = 1.0,
    searches: int = 1,
    steps: int = 200,
    rate: float = 0.01,
) -> Tensor:
    """Carlini and Wagner's L2 attack: the smallest change that still leads to another class.

    Adam lowers `||d||^2 + c max(z_y - max_{k != y} z_k + confidence, 0)` in the space of the inverse hyperbolic
    tangent, where every value is a pixel in (0, 1). An image for which nothing is found comes back as it was.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", IEEE S&P 2017.

    Args:
        model: As for `fgsm`.
        images: As for `fgsm`.
        labels: As for `fgsm`.
        confidence: By how much another logit has to be the larger one.
        constant: c, the weight of the loss; where a binary search begins.
        searches: Values of c that are tried for each image, at least 1; with more the change gets smaller, at as many
            times the price.
        steps: Steps of Adam for each.
        rate: Learning rate of Adam.

    Returns:
        Images of the same shape and type in [0, 1].

    Raises:
        InputError: If images, labels or settings are out of range.
        ModelError: As `fgsm`.
        DependencyError: If Foolbox is not installed.
    """
    for name, value in {"constant": constant, "searches": searches, "steps": steps, "rate": rate}.items():
        if not value > 0:
            raise InputError(f"{name} must be above 0, got {value}")
    given.number("confidence", confidence, "a margin of 0 or more", least=0)
    attack = _foolbox("C&W").attacks.L2CarliniWagnerAttack(
        binary_search_steps=searches,
        steps=steps,
        stepsize=rate,
        confidence=confidence,
        initial_const=constant,
        abort_early=False,  # it looks at the loss of the whole batch: an image's result would depend on its neighbours
    )

    def run(classifier: Any, batch: Tensor) -> Tensor:
        found: Tensor = attack.run(classifier, batch, labels.clone())
        # Foolbox leaves an image black for which it found nothing.
        nothing = (found == 0).flatten(1).all(dim=1)
        return torch.where(nothing.view(-1, 1, 1, 1), batch, found)

    return _run(model, images, labels, run)


def _iterative(title: str, epsilon: float, step: float, steps: int, *, random_start: bool) -> Any:
    _check_pixels("epsilon", epsilon)
    _check_pixels("step", step)
    given.whole("steps", steps)
    return _foolbox(title).attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=step, steps=steps, random_start=random_start
    )


def _away(model: nn.Module, images: Tensor, labels: Tensor, attack: Any, epsilon: float) -> Tensor:
    """An attack that leads away from the labels, within epsilon of the images."""
    return _run(
        model, images, labels, lambda classifier, batch: attack.run(classifier, batch, labels.clone(), epsilon=epsilon)
    )


def _run(model: nn.Module, images: Tensor, labels: Tensor, attack: Callable[[Any, Tensor], Tensor]) -> Tensor:
    check_unit(images)
    check_labels(images, labels)
    from foolbox.models.pytorch import PyTorchModel

    with lent(model):
        classifier = PyTorchModel(_Logits(model, labels).eval(), bounds=(0, 1), device=images.device)
        attacked = attack(classifier, images.detach().clone())
    return attacked.detach()


def _foolbox(title: str) -> Any:
    try:
        import foolbox
    except ImportError as error:
        raise DependencyError(
            f"{title} needs foolbox: install it with the extra `attacks`, pip install 'gradiometer[attacks]'"
        ) from error
    return foolbox


def _check_pixels(name: str, value: float) -> None:
    given.number(name, value, "a number from 0 to 1, in units of the pixel range; 8/255 is usual", least=0, most=1)


class _Logits(nn.Module):
    """The model, with its outputs checked before a loss of another library stumbles over them."""

    def __init__(self, model: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.model = model
        self.highest = int(labels.max())

    def forward(self, images: Tensor) -> Tensor:
        with of_the_model(self.model, images):
            logits = self.model(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(f"an attack needs logits (B, C), but the model returns {got}; wrap it so that it does")
        if self.highest >= logits.shape[1]:
            raise InputError(f"a label is {self.highest}, but the model knows the classes 0 to {logits.shape[1] - 1}")
        return logits
