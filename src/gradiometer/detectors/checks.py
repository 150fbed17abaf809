"""What a model must be like before a detector reads it, and how it is called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.detectors.inputs import Inputs, leaves, rows
from gradiometer.errors import InputError, ModelError, of_the_model
from gradiometer.gradients.factors import all_finite
from gradiometer.gradients.selection import Output, kind_of, one_logit_hint, selected
from gradiometer.gradients.state import check_tracked, uncached
from gradiometer.gradients.strides import ordered

_RANDOM_OR_MIXING = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


def check_model(model: nn.Module, *, weights: bool = True) -> None:
    """Refuse a model that gives no meaningful reading.

    Args:
        model: The user's model.
        weights: Whether to look through the weights as well.

    Raises:
        ModelError: A module is in train mode, or a weight is NaN or infinite.
    """
    # TorchScript that was frozen is in eval mode for good and does not say so.
    training = [(name, module) for name, module in model.named_modules() if getattr(module, "training", False)]
    if training:
        # Batch norm mixes the samples of a batch and dropout draws at random: name one of those if there is one.
        name, module = next(((n, m) for n, m in training if isinstance(m, _RANDOM_OR_MIXING)), training[0])
        raise ModelError(
            f"{type(module).__name__} {name or 'itself'!r} of the model is in train mode, where scores would depend "
            "on the batch or on chance; call model.eval() first"
        )
    broken = broken_weights(model) if weights else []
    if broken:
        raise ModelError(
            f"the model has NaN or infinite values in {len(broken)} weight(s), such as {broken[0]!r}; load it again"
        )


def place_of(model: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and floating point type of the weights, which inputs have to share; None where they are not all alike."""
    floating = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    devices, dtypes = {parameter.device for parameter in floating}, {parameter.dtype for parameter in floating}
    return devices.pop() if len(devices) == 1 else None, dtypes.pop() if len(dtypes) == 1 else None


def broken_weights(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that hold NaN or infinite values."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return [n for n, t in named if t.is_floating_point() and not all_finite(t)]


def check_outputs(outputs: Any, inputs: Inputs, model: nn.Module) -> Tensor:
    """Refuse outputs that are not one row of logits for each sample.

    Args:
        outputs: What the model returned, after the selector.
        inputs: What it was called with, B rows.
        model: The model, to look for the cause of values that are not finite.

    Returns:
        The outputs (B, C), detached.

    Raises:
        ModelError: They are no tensor, do not have the shape (B, C) with C of two or more, or are not finite.
    """
    count = leaves(inputs)[0][1].shape[0]
    remedy = "give output=, a key, a position or a function that picks the logits (B, C) from what the model returns"
    if not isinstance(outputs, Tensor):
        raise ModelError(f"the model returns {kind_of(outputs)} where logits (B, C) are needed; {remedy}")
    if outputs.ndim != 2 or outputs.shape[0] != count or outputs.shape[1] < 2 or not outputs.is_floating_point():
        raise ModelError(
            f"the model returns {str(outputs.dtype).removeprefix('torch.')} {tuple(outputs.shape)} for {count} "
            f"sample(s) where logits ({count}, C) with C of two or more are needed; {remedy}"
            f"{one_logit_hint(outputs)}"
        )
    logits: Tensor = outputs.detach()
    if not all_finite(logits):
        bad = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
        broken = broken_weights(model)
        cause = f"weight {broken[0]!r} is NaN or infinite" if broken else "its weights are finite, so it overflows"
        raise ModelError(f"the model returns NaN or infinite logits for row(s) {bad[:5]} of a batch: {cause}")
    return logits


def forward(model: nn.Module, inputs: Inputs, output: Output = None) -> Tensor:
    """Logits of a batch, without gradients.

    Args:
        model: The model, in eval mode.
        inputs: A tensor, or several as a tuple (passed in order) or a dict (passed by name).
        output: Where the logits are in what the model returns.

    Returns:
        Logits (B, C).

    Raises:
        ModelError: The model cannot take such inputs, or the outputs are not logits.
    """
    with torch.no_grad():
        return check_outputs(run(model, inputs, output), inputs, model)


def run(model: nn.Module, inputs: Inputs, output: Output = None) -> Any:
    """What the model returns at the place of the logits, unchecked, with gradients where they are on."""
    if torch.is_grad_enabled():
        check_tracked(model)
    with uncached(model), ordered(model, rows(inputs)), of_the_model(model, inputs):
        if isinstance(inputs, Tensor):
            returned = model(inputs)
        else:
            returned = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return selected(returned, output)


def signature(inputs: Inputs) -> dict[str, list[int]]:
    """Shape of one sample of each floating point tensor of an input; tokens may come in any length."""
    return {name: list(tensor.shape[1:]) for name, tensor in leaves(inputs) if tensor.is_floating_point()}


def check_signature(inputs: Inputs, expected: dict[str, list[int]], role: str) -> None:
    """Refuse inputs of another size than those of the fit.

    Args:
        inputs: A batch.
        expected: The signature of the inputs that the detector was fitted on.
        role: What the batch is, for the message.

    Raises:
        InputError: The shapes differ.
    """
    found = signature(inputs)
    if found != expected:
        show = [", ".join(f"{k} {tuple(v)}" for k, v in s.items()) or "no tensor" for s in (found, expected)]
        raise InputError(
            f"the {role} have {show[0]} where the detector was fitted on {show[1]}; {_remedy(inputs, expected)}"
        )


def _remedy(inputs: Inputs, expected: dict[str, list[int]]) -> str:
    """What to do about inputs of another size: a dimension may be all that is missing."""
    wanted = expected.get("input")
    if isinstance(inputs, Tensor) and wanted is not None:
        if list(inputs.shape) == wanted:
            return "give one image alone as a batch of one, x[None]"
        if wanted[:1] == [1] and list(inputs.shape[1:]) == wanted[1:]:
            return "give grey images with their channel, x[:, None]"
    return "resize or convert them"
