"""What a model returns for made-up inputs, to notice another model that has the same weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.detectors.checks import forward, place_of
from gradiometer.detectors.inputs import leaves, move
from gradiometer.errors import ArtefactError
from gradiometer.gradients.selection import Output
from gradiometer.gradients.state import buffers_as_found, exclusive, uncompiled

Floats = npt.NDArray[np.float64]

_COUNT = 2
"""Made-up samples; a model that differs in more than its weights differs for any of them."""

_TOLERANCE = 0.05
"""How far outputs may be off, in units of the largest: other devices, kernels and layouts in memory round."""

_STEADY = 0.005
"""The same for outputs of one model, one time and another: beyond, they are random, and none is remembered."""


def made_up(shapes: Mapping[str, list[int]]) -> Tensor | None:
    """Inputs of the right shape that any version of any package makes up alike.

    Args:
        shapes: Shape of one sample of each floating point tensor of an input.

    Returns:
        Uniform noise (2, ...) float32 in [0, 1); None for models that take several tensors, or something else than
        numbers with a fraction, for which nobody could make up what they understand.

    Example:
        >>> made_up({"input": [3, 32, 32]}).shape
        torch.Size([2, 3, 32, 32])
    """
    if list(shapes) != ["input"]:
        return None
    values = np.random.RandomState(0).random_sample((_COUNT, *shapes["input"]))  # the same for ever, says NumPy
    return torch.from_numpy(values.astype(np.float32))


def outputs_of(model: nn.Module, inputs: Tensor, output: Output = None) -> Floats:
    """Logits of made-up inputs, in the model's own floating point type.

    Args:
        model: The model.
        inputs: The inputs (2, ...).
        output: Where the logits are in what it returns.

    Returns:
        The logits (2, C).

    Raises:
        ModelError: There are none.
    """
    device, dtype = place_of(model)
    here = move(inputs, device, dtype)
    kind = leaves(here)[0][1].device.type
    with exclusive(model), uncompiled(model), buffers_as_found(model), torch.autocast(kind, enabled=False):
        return forward(model, here, output).cpu().double().numpy()


def witness_of(model: nn.Module, shapes: Mapping[str, list[int]], output: Output = None) -> Floats | None:
    """What a model returns for made-up inputs, to be remembered.

    Args:
        model: The model, in eval mode.
        shapes: As for `made_up`.
        output: Where the logits are in what it returns.

    Returns:
        Logits (2, C); None if nothing can be made up, or the model returns no logits that are the same each time.
    """
    if (probe := made_up(shapes)) is None:
        return None
    try:
        first, *others = (outputs_of(model, probe, output) for _ in range(3))
    except Exception:  # noise may be more than a model or its user thought of; it is judged without a witness then
        return None
    return first if all(_agree(first, other, _STEADY) for other in others) else None


def check_witness(model: nn.Module, shapes: Mapping[str, list[int]], remembered: Floats, output: Output = None) -> None:
    """Refuse a model that has the weights of the fit and gives other outputs.

    Args:
        model: The model, in eval mode.
        shapes: As for `made_up`.
        remembered: What the model of the fit returned for made-up inputs (2, C).
        output: Where the logits are in what it returns.

    Raises:
        ArtefactError: They differ.
        ModelError: It returns no logits.
    """
    probe = made_up(shapes)
    if probe is not None and not _agree(remembered, outputs_of(model, probe, output), _TOLERANCE):
        raise ArtefactError(
            "the model has the weights that the detector was fitted on, but gives other outputs: another "
            "normalisation, activation function or order of layers; build it as it was, or fit and calibrate again"
        )


def _agree(first: Floats, second: Floats, tolerance: float) -> bool:
    """Whether these are the outputs of one model for the same inputs, but for rounding."""
    return first.shape == second.shape and bool(np.abs(first - second).max() <= tolerance * np.abs(first).max())
