"""What a model returns for made-up inputs, to notice another model that has the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradiometer.detectors.samples import Measurement
from gradiometer.errors import ArtefactError, ModelError

Floats = npt.NDArray[np.float64]

_COUNT = 2
"""Made-up samples; a model that differs in more than its weights differs for any of them."""

_TOLERANCE = 0.05
"""How far outputs may be off, in units of the largest: other devices and types round, by a hundredth in 16 bits."""


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


def agree(first: Floats, second: Floats) -> bool:
    """Whether these are the outputs of one model for the same inputs, but for rounding."""
    return first.shape == second.shape and bool(np.abs(first - second).max() <= _TOLERANCE * np.abs(first).max())


def witness_of(shapes: Mapping[str, list[int]], read: Callable[[Tensor], Iterable[Measurement]]) -> Floats | None:
    """What a model returns for made-up inputs.

    Args:
        shapes: As for `made_up`.
        read: Reads the model, batch by batch.

    Returns:
        Logits (2, C); None if nothing can be made up, or the model returns none that are finite and the same twice.
    """
    if (probe := made_up(shapes)) is None:
        return None
    try:
        first, second = (_logits(read(probe)) for _ in range(2))
    except ModelError:
        return None
    return first if first is not None and second is not None and agree(first, second) else None


def _logits(measured: Iterable[Measurement]) -> Floats | None:
    found = [one.outputs.cpu().double().numpy() for one in measured if one.outputs is not None]
    return np.concatenate(found) if found else None


def check_witness(found: Floats | None, remembered: Floats) -> None:
    """Refuse a model that has the weights of the fit and gives other outputs.

    Args:
        found: What it returns for made-up inputs (2, C), or None if it returns nothing finite.
        remembered: What the model of the fit returned.

    Raises:
        ArtefactError: They differ.
    """
    if found is None or not agree(remembered, found):
        raise ArtefactError(
            "the model has the weights that the detector was fitted on, but gives other outputs: another "
            "normalisation, activation function or order of layers; build it as it was, or fit and calibrate again"
        )
