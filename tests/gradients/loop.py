"""The reference: one sample at a time, plain autograd, every loss in a form that is exact in float64.

Nothing here knows the instrument. The loop runs `model(x[i:i+1])`, asks autograd for the gradient of every named
parameter (zero where there is none), and takes the statistics from the full gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo import Inputs, call, samples, select, take

Loss = Callable[[Tensor, Inputs], Tensor]
Gradients = dict[str, Tensor]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) with an exact derivative everywhere (torch's own is linear above 20)."""
    return torch.logaddexp(torch.zeros_like(x), x)


def bce_with_logits(label: Sequence[float] | None = None) -> Loss:
    """Loss A: binary cross-entropy with logits, mean over classes; all ones by default."""

    def loss(z: Tensor, _: Inputs) -> Tensor:
        y = torch.ones_like(z) if label is None else z.new_tensor(label).expand_as(z)
        return (y * softplus(-z) + (1 - y) * softplus(z)).mean(1)

    return loss


def bce_on_softmax(z: Tensor, _: Inputs) -> Tensor:
    """Loss B: minus the sum of all log-probabilities."""
    return z.shape[1] * z.logsumexp(1) - z.sum(1)


def uniform_target(z: Tensor, _: Inputs) -> Tensor:
    """Loss C: cross-entropy with probabilities 1 / C."""
    return z.logsumexp(1) - z.mean(1)


def cross_entropy(label: int) -> Loss:
    """Cross-entropy with one class, as softplus(logsumexp of the others minus that class): exact when it is certain."""

    def loss(z: Tensor, _: Inputs) -> Tensor:
        others = torch.cat([z[:, :label], z[:, label + 1 :]], dim=1)
        return softplus(others.logsumexp(1) - z[:, label])

    return loss


def pseudo_label(z: Tensor, inputs: Inputs) -> Tensor:
    """Cross-entropy with the predicted class of one sample."""
    return cross_entropy(int(z.argmax(1)))(z, inputs)


def reconstruction(y: Tensor, x: Inputs) -> Tensor:
    """Mean squared error of one sample."""
    return (y - x).square().flatten(1).mean(1)


def loop_gradients(model: nn.Module, inputs: Inputs, loss: Loss, output: Any = None) -> Gradients:
    """Gradient of the loss of every single sample with respect to every named parameter: name to (B, *shape)."""
    parameters = dict(model.named_parameters())
    flags = {name: parameter.requires_grad for name, parameter in parameters.items()}
    stacks: dict[str, list[Tensor]] = {name: [] for name in parameters}
    try:
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        for i in range(samples(inputs)):
            one = take(inputs, slice(i, i + 1))
            with torch.enable_grad():
                value = loss(select(call(model, one), output), one).sum()
            found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
                gradient = torch.zeros_like(parameter) if gradient is None else gradient
                stacks[name].append((gradient.to_dense() if gradient.is_sparse else gradient).detach())
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(flags[name])
    return {name: torch.stack(stack) for name, stack in stacks.items()}


def rows(gradient: Tensor) -> Tensor:
    """(B, *shape) to float64 (B, size)."""
    return gradient.double().reshape(len(gradient), -1)


def squared_norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """(B, T) squared norms."""
    return torch.stack([rows(gradient).square().sum(1) for gradient in gradients.values()], 1)


def absolute_sums(gradients: Mapping[str, Tensor]) -> Tensor:
    """(B, T) absolute sums."""
    return torch.stack([rows(gradient).abs().sum(1) for gradient in gradients.values()], 1)


def inner_products(gradients: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
    """(B, T) inner products."""
    return torch.stack([rows(gradient) @ reference[name].double().flatten() for name, gradient in gradients.items()], 1)


def random_reference(model: nn.Module, seed: int = 7) -> dict[str, Tensor]:
    """One seeded reference per parameter, drawn in float32 and cast, so that float32 and float64 agree."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(parameter.shape, generator=generator).to(parameter)
        for name, parameter in model.named_parameters()
    }


def log_confident_norm(gap: float, classes: int) -> float:
    """Natural logarithm of ||p - onehot||_2^2 for logits (gap, 0, ..., 0): never forms the tiny probability."""
    rest = classes - 1
    log_p = -gap - math.log1p(rest * math.exp(-gap))  # of each class that was not predicted
    return 2 * log_p + math.log(rest + rest**2)
