"""A small step of the input towards more confidence, as ODIN and Mahalanobis take it before they score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_ood.detector import odin_preprocessing
from torch import Tensor

from gradiometer.detectors.inputs import Inputs
from gradiometer.errors import InputError


def step(
    function: Callable[[Any], Tensor],
    loss: Callable[[Tensor], Tensor],
    inputs: Inputs,
    epsilon: float,
    deviations: Sequence[float] | None = None,
) -> Tensor:
    """Move every value of the inputs by epsilon so that the loss falls: x - epsilon sign(dL/dx).

    Args:
        function: What the loss is a function of: maps inputs to (B, ...).
        loss: Sum over the samples of their losses, from what the function returns.
        inputs: B samples, one floating point tensor.
        epsilon: Size of the step, in units of the inputs.
        deviations: Standard deviation of each channel by which the user divides before the model sees the images; the
            step is then divided by them, so that epsilon is in units of the images. None for a model that takes images
            as they are.

    Returns:
        The moved inputs, the same shape.

    Raises:
        InputError: Inputs of another kind.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise InputError("an input step needs one floating point tensor; tokens and several inputs cannot be moved")
    # Outside of inference mode, which knows no gradients; the caller may be inside.
    with torch.inference_mode(False):
        moved: Tensor = odin_preprocessing(
            function,
            inputs.clone(),
            y=torch.empty(0),  # no label: the loss knows what it wants
            criterion=lambda values, _: loss(values),
            eps=epsilon,
            temperature=1.0,
            norm_std=None if deviations is None else list(deviations),
        )
    return moved
