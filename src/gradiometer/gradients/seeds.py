"""From what a model returned to what is sent back through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.factors import all_finite, exact, wide
from gradiometer.gradients.objectives import Loss, Objective

#: Largest exponent by which seeds in float32 are scaled: that power of two and its inverse are normal numbers of it.
_REACH = 100

#: How many different powers of two losses are multiplied by to see whether they mix samples.
_WEIGHTS = 8

#: How far gradients that are the same may be apart, in units of the largest: some kernels add in an order of their own
#: each time, and half precision loses digits of small numbers.
_ALIKE = 1e-2


def seeds_of(objective: Objective | Loss, outputs: Tensor, inputs: Any, *, trusted: bool = False) -> Tensor:
    """The gradients (N, *outputs.shape) of any objective, also of a plain callable.

    Args:
        objective: The objective.
        outputs: Outputs of the model (B, ...), without history.
        inputs: What went into the model.
        trusted: Whether a callable is known to keep samples apart, so that it is not looked at again.

    Raises:
        InputError: If a callable does not return one finite value for each sample, or mixes samples.
    """
    if isinstance(objective, Objective):
        return objective.seeds(outputs, inputs)
    leaf = outputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        losses: Any = objective(leaf, inputs)
        if not isinstance(losses, Tensor) or losses.shape != outputs.shape[:1]:
            shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(f"an objective must return one value for each of {len(outputs)} samples, got {shape}")
        if not losses.requires_grad:
            return exact(torch.zeros_like(outputs)).unsqueeze(0)
        if not all_finite(losses):
            raise InputError(f"the objective is NaN or infinite for {int((~torch.isfinite(losses)).sum())} samples")
        looked_at = len(losses) > 1 and not trusted
        (seeds,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=looked_at)
        if looked_at:
            _check_apart(losses, leaf, seeds)
    return exact(seeds.detach()).unsqueeze(0)


def _check_apart(losses: Tensor, leaf: Tensor, seeds: Tensor) -> None:
    """Refuse losses of which one depends on the outputs of another sample.

    With the losses times negative powers of two, which is exact, each gradient at the outputs is multiplied by that of
    its own sample.
    """
    weights = torch.exp2(-(torch.arange(len(losses), device=losses.device) % _WEIGHTS)).to(losses.dtype)
    (weighted,) = torch.autograd.grad((weights * losses).sum(), leaf)
    expected = seeds * weights.to(seeds).view(-1, *(1,) * (seeds.ndim - 1))
    off = (weighted - expected).abs() > _ALIKE * expected.abs().max()
    if off.any():
        row = int(off.reshape(len(off), -1).any(1).nonzero()[0])
        raise InputError(
            f"the objective mixes samples: the gradient at row {row} of the outputs changes with the losses of other "
            "rows; use no mean, sum, sorting or normalisation over the batch in it, nor a backward function "
            "of your own that is not linear"
        )


def scaled(seeds: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each sample's seed to order one by a power of two, which is exact, and keep the exponent.

    Gradients are linear in the seed. So a gradient of 1e-30 passes through float16 or float32 without underflow, and
    its square is put together again in float64.
    """
    seeds = wide(seeds)
    others = tuple(range(2, seeds.ndim))
    magnitudes = seeds.abs()
    largest = magnitudes.amax(others) if others else magnitudes
    _, exponents = torch.frexp(largest)
    exponents = torch.where(largest > 0, exponents, 0)
    if seeds.dtype != torch.float64:
        exponents = exponents.clamp(-_REACH, _REACH)
    powers = torch.exp2(-exponents.to(seeds.dtype))
    scaled = seeds * powers.view(*powers.shape, *(1,) * (seeds.ndim - 2))
    return scaled.to(outputs.dtype).to(outputs.device), exponents


def check_outputs(outputs: Tensor) -> None:
    """Refuse outputs that have no gradient or are not finite.

    Raises:
        ModelError: Says which rows.
    """
    if not outputs.is_floating_point():
        raise ModelError(f"the outputs are {outputs.dtype}, which has no gradient; select the logits with output=")
    if not all_finite(outputs):
        rows = (~torch.isfinite(outputs.reshape(len(outputs), -1))).any(1).nonzero().flatten().tolist()
        raise ModelError(
            f"the model returns NaN or infinite outputs for {len(rows)} of {len(outputs)} samples, first "
            f"row {rows[0]}; check its weights and the range of the inputs"
        )
