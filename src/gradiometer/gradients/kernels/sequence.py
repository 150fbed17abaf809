"""Squared norms of the weight gradients of linear layers over sequences, by the kernel in `sequence.c`."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from gradiometer.gradients.kernels import library

_SIZES = (
    *("batch", "positions", "narrow", "broad"),
    *("narrow_sample", "narrow_position", "broad_sample", "broad_position", "threads"),
)


class _Sequence(ctypes.Structure):
    """The structure of the same name in C."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _SIZES)


def sequences(inputs: Tensor, errors: Tensor) -> Tensor:
    """Squared norms (B,) of the gradients `sum_s e[s] x a[s]` of a weight (O, I).

    Args:
        inputs: Inputs of the layer (B, S, I), of a kind that `library.fits`.
        errors: Gradients of its outputs (B, S, O), likewise.
    """
    kernels = library.load(inputs.dtype)
    narrow, broad = sorted(map(_in_line, (inputs, errors)), key=lambda factor: factor.shape[2])
    batch, positions = inputs.shape[:2]
    found = inputs.new_empty(batch, -(-positions // kernels.side()))
    task = _Sequence(
        batch, positions, narrow.shape[2], broad.shape[2],
        *narrow.stride()[:2], *broad.stride()[:2], torch.get_num_threads(),
    )  # fmt: skip
    kernels.sequence(ctypes.byref(task), *(ctypes.c_void_p(each.data_ptr()) for each in (narrow, broad, found)))
    return found.sum(1)


def _in_line(factor: Tensor) -> Tensor:
    """The factor with the numbers of a position one behind the other in memory."""
    return factor if factor.stride(2) == 1 else factor.contiguous()
