"""Batches of inputs: a tensor, or a tuple or dict of tensors, with the samples in the first dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradiometer.errors import InputError
from gradiometer.gradients.factors import all_finite

#: What a model takes: one tensor, positional tensors, or tensors by name.
Inputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def count(inputs: Inputs) -> int:
    """Number of samples B.

    Raises:
        InputError: If there is no tensor, no sample, or tensors disagree; or if a value is NaN or infinite.
    """
    tensors = _tensors(inputs)
    if not tensors and (arrays := [each for each in _leaves(inputs) if isinstance(each, np.ndarray)]):
        call = "torch.from_numpy(x)" + (".float()" if arrays[0].dtype == np.float64 else "")
        raise InputError(f"inputs are NumPy arrays, the first {arrays[0].shape}; give tensors: {call} makes one")
    if not tensors:
        raise InputError(f"inputs must be a tensor, or a tuple or dict of tensors, got {type(inputs).__name__}")
    if any(tensor.ndim == 0 for tensor in tensors):
        raise InputError("an input has no batch dimension: give one row for each sample")
    sizes = {len(tensor) for tensor in tensors}
    if len(sizes) > 1:
        raise InputError(f"inputs disagree about the number of samples: {sorted(sizes)}")
    if (size := sizes.pop()) == 0:
        raise InputError("there are no samples: the batch is empty")
    for tensor in tensors:
        if tensor.is_floating_point() and not all_finite(tensor):
            rows = (~torch.isfinite(tensor.reshape(size, -1))).any(1).nonzero().flatten().tolist()
            raise InputError(
                f"NaN or infinite values in {len(rows)} of {size} samples, first in row {rows[0]}; remove them"
            )
    return size


def rows(inputs: Inputs) -> int:
    """Number of samples of inputs that `count` has accepted."""
    return len(_tensors(inputs)[0])


def take(inputs: Inputs, start: int, stop: int) -> Inputs:
    """A range of samples."""
    return _mapped(inputs, lambda tensor: tensor[start:stop])


def join(first: Inputs, second: Inputs) -> Inputs:
    """Two batches behind each other."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {key: join(first[key], second[key]) if _holds(first[key]) else first[key] for key in first}
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return _like(first, [join(a, b) if _holds(a) else a for a, b in zip(first, second, strict=True)])
    raise InputError("two batches of different structure")


def probing(inputs: Inputs, size: int) -> Inputs:
    """A batch of the given size that looks like the inputs, with samples that all differ from each other."""
    generator = torch.Generator().manual_seed(0)

    def changed(tensor: Tensor) -> Tensor:
        rows = tensor.detach()[torch.arange(size, device=tensor.device) % len(tensor)].clone()
        return torch.stack([_disturbed(row, generator) for row in rows])

    return _mapped(inputs, changed)


def rotated(inputs: Inputs) -> Inputs:
    """The same samples, with the last one first."""
    return _mapped(inputs, lambda tensor: tensor.roll(1, 0))


def swap_first(inputs: Inputs) -> Inputs:
    """The same batch with another first sample."""
    generator = torch.Generator().manual_seed(1)

    def changed(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[0] = _disturbed(tensor[0], generator)
        return tensor

    return _mapped(inputs, changed)


def doubled(inputs: Inputs) -> Inputs:
    """The same batch in float64, where it is numbers."""
    return _mapped(inputs, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def copied(inputs: Inputs) -> Inputs:
    """The same batch in memory of its own."""
    return _mapped(inputs, torch.clone)


def channels_last(inputs: Inputs, least: int) -> Inputs:
    """The same batch with the channels of images (B, C, H, W) as their fastest dimension in memory.

    Args:
        inputs: The batch.
        least: Numbers that an image has to have; smaller ones stay as they are, however many there are.
    """

    def changed(tensor: Tensor) -> Tensor:
        large = tensor.ndim == 4 and tensor.shape[1:].numel() >= least
        return tensor.contiguous(memory_format=torch.channels_last) if large else tensor

    return _mapped(inputs, changed)


def on(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs on a device, free of history and of inference mode."""

    def moved(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        if device.type == "cuda" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()  # what is pinned travels while the device works on the part before
        tensor = tensor.to(device, non_blocking=device.type == "cuda")
        return tensor.clone() if tensor.is_inference() else tensor

    with torch.inference_mode(False):
        return _mapped(inputs, moved)


def signature(inputs: Inputs) -> tuple[Any, ...]:
    """Shapes of a sample and dtypes: what a plan depends on."""
    return tuple((tuple(tensor.shape[1:]), tensor.dtype, str(tensor.device)) for tensor in _tensors(inputs))


def _disturbed(row: Tensor, generator: torch.Generator) -> Tensor:
    """Another sample of the same kind: moved by noise, or shuffled along its first dimension where it is no numbers."""
    if not row.numel():
        return row
    if row.is_floating_point():
        noise = torch.rand(row.shape, generator=generator).to(row)
        spread = row.max() - row.min()
        spread = torch.where(spread > 0, spread, torch.ones_like(spread))
        return row * 0.7 + noise * spread * 0.3 + row.mean() * 0.1
    if row.dtype == torch.bool or row.ndim == 0 or len(row) < 2:
        return row
    return row[torch.randperm(len(row), generator=generator).to(row.device)]


def _mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {key: _mapped(value, change) for key, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return _like(inputs, [_mapped(value, change) for value in inputs])
    return inputs


def _like(sequence: tuple[Any, ...] | list[Any], values: list[Any]) -> Inputs:
    """Values in a tuple, with the names of the sequence when it has names."""
    if isinstance(sequence, tuple) and hasattr(sequence, "_fields"):
        return type(sequence)(*values)
    return tuple(values)


def _tensors(inputs: Any) -> list[Tensor]:
    return [each for each in _leaves(inputs) if isinstance(each, Tensor)]


def _leaves(inputs: Any) -> list[Any]:
    if not isinstance(inputs, Mapping | tuple | list):
        return [inputs]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    return [leaf for value in values for leaf in _leaves(value)]


def _holds(value: Any) -> bool:
    return bool(_tensors(value))
