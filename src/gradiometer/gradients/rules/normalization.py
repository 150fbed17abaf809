"""Normalisation layers: the gradients of scale and shift are sums over positions.

The scale's gradient needs the normalised input. It is computed again from the input with the layer's own function,
without scale and shift, so that it is right also where a later operation has changed the output in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gradiometer.gradients.factors import Dense, Factor, wide
from gradiometer.gradients.rules.registry import Call, layer_rule

#: Numbers that an intermediate result may hold to stay in the cache.
_CACHED = 2**18


@layer_rule(
    torch.batch_norm,
    arguments="input weight bias running_mean running_var training momentum eps cudnn_enabled",
)
@layer_rule(functional.batch_norm, arguments="input running_mean running_var weight bias training momentum eps")
def batch_norm(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Batch norm with running statistics."""
    mean, variance = call.get("running_mean"), call.get("running_var")
    if call.get("training", False) or mean is None or call.layouts["input"].dim != 0:
        return None
    inputs, errors = wide(call.samples("input")), wide(errors)
    statistics = mean.to(inputs.dtype), variance.to(inputs.dtype), float(call.get("eps", 1e-5))
    scale, shift = channel_sums(inputs, errors, *statistics)
    return _wanted(call, weight=scale, bias=shift)


def channel_sums(
    inputs: Tensor, errors: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Gradients (B, C) of scale and shift of channels: sums over frames and pixels.

    Args:
        inputs: What is normalised (B, R, C, ...); R is 1 unless several frames of a sample are folded into the batch.
        errors: Gradients of the outputs, same shape.
        mean: Mean (C,) that is taken off.
        variance: Variance (C,) that is divided by.
        epsilon: Added to the variance.
    """
    fastest = inputs.ndim > 3 and inputs.shape[2] > 1 and inputs.stride(2) == errors.stride(2) == 1
    return (_sums_over_rows if fastest else _sums_by_kernel)(inputs, errors, mean, variance, epsilon)


def _sums_over_rows(
    inputs: Tensor, errors: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Where channels are the fastest dimension in memory: sums of rows.

    A few samples at a time, so that the products stay in the cache.
    """
    rows, others = (tensor.movedim(2, -1).flatten(1, -2) for tensor in (inputs, errors))
    step = max(1, _CACHED // rows[0].numel())
    parts = [(rows[at : at + step] - mean).mul_(others[at : at + step]).sum(1) for at in range(0, len(rows), step)]
    return torch.cat(parts) * torch.rsqrt(variance + epsilon), others.sum(1)


def shift_sums(errors: Tensor) -> Tensor:
    """Gradients (B, C) of the shift of channels alone; see `channel_sums`."""
    return errors.movedim(2, -1).flatten(1, -2).sum(1)


def _sums_by_kernel(
    inputs: Tensor, errors: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The same for every other memory format.

    Samples and channels together are seen as the channels of one image: a single pass of the native kernel then sums
    per sample what it otherwise sums over the batch.
    """
    inputs, errors = inputs.transpose(0, 1), errors.transpose(0, 1)
    frames, batch, channels = inputs.shape[:3]
    folded = (frames, batch * channels, -1)
    _, scale, shift = torch.ops.aten.native_batch_norm_backward(
        errors.reshape(folded),
        inputs.reshape(folded),
        None,
        mean.repeat(batch),
        variance.repeat(batch),
        None,
        None,
        False,
        epsilon,
        (False, True, True),
    )
    return scale.view(batch, channels), shift.view(batch, channels)


@layer_rule(functional.layer_norm, torch.layer_norm, arguments="input normalized_shape weight bias eps")
def layer_norm(call: Call, errors: Tensor) -> dict[str, Factor]:
    """Layer norm over the last dimensions."""
    shape = tuple(call.get("normalized_shape"))
    normalised = functional.layer_norm(wide(call.samples("input")), shape, None, None, call.get("eps", 1e-5))
    return _affine(call, normalised, errors, trailing=len(shape))


@layer_rule(functional.rms_norm, torch.rms_norm, arguments="input normalized_shape weight eps")
def rms_norm(call: Call, errors: Tensor) -> dict[str, Factor]:
    """Root-mean-square norm over the last dimensions (Zhang and Sennrich, 2019)."""
    shape = list(call.get("normalized_shape"))
    epsilon = call.get("eps")
    inputs = call.samples("input")
    epsilon = torch.finfo(inputs.dtype).eps if epsilon is None else epsilon
    return _affine(call, functional.rms_norm(wide(inputs), shape, None, epsilon), errors, trailing=len(shape))


@layer_rule(functional.group_norm, torch.group_norm, arguments="input num_groups weight bias eps")
def group_norm(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Group norm over channels and positions of each sample."""
    if call.layouts["input"].dim != 0 or call.layouts["input"].outer != 1:
        return None
    inputs = wide(call.get("input"))
    normalised = functional.group_norm(inputs, call.get("num_groups"), None, None, call.get("eps", 1e-5))
    return _channels(call, normalised, errors)


@layer_rule(
    torch.instance_norm,
    arguments="input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled",
)
@layer_rule(
    functional.instance_norm, arguments="input running_mean running_var weight bias use_input_stats momentum eps"
)
def instance_norm(call: Call, errors: Tensor) -> dict[str, Factor] | None:
    """Instance norm, over its own or the running statistics."""
    if call.layouts["input"].dim != 0 or call.layouts["input"].outer != 1:
        return None
    own: bool = call.get("use_input_stats", True)
    mean, variance = (None, None) if own else (call.get("running_mean"), call.get("running_var"))
    inputs = wide(call.get("input"))
    normalised = functional.instance_norm(inputs, mean, variance, None, None, own, 0.0, call.get("eps", 1e-5))
    return _channels(call, normalised, errors)


def _channels(call: Call, normalised: Tensor, errors: Tensor) -> dict[str, Factor]:
    """Scale and shift of channels, which stand behind the batch."""
    channels = normalised.shape[1]
    normalised = normalised.reshape(call.batch, -1, channels, normalised[0, 0].numel())
    errors = wide(errors).reshape(normalised.shape)
    return _wanted(call, weight=lambda: (normalised * errors).sum((1, 3)), bias=lambda: errors.sum((1, 3)))


def _affine(call: Call, normalised: Tensor, errors: Tensor, *, trailing: int) -> dict[str, Factor]:
    """Scale and shift of the last dimensions."""
    errors = wide(errors)
    shape = normalised.shape[normalised.ndim - trailing :]

    def summed(values: Tensor) -> Tensor:
        return values.reshape(call.batch, -1, *shape).sum(1)

    return _wanted(call, weight=lambda: summed(normalised * errors), bias=lambda: summed(errors))


def _wanted(call: Call, **values: Any) -> dict[str, Factor]:
    """The factors that are asked for, computing nothing else."""
    chosen = {name: value for name, value in values.items() if name in call.wanted}
    return {name: Dense(value() if callable(value) else value) for name, value in chosen.items()}
