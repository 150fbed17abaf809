"""The gradient of the images of a convolution with 3 x 3 kernels, by the kernel in `winograd_image.c`."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from gradiometer.gradients.kernels import library

_SIZES = (
    *("batch", "inputs", "outputs", "height", "width", "rows", "columns", "padding_top", "padding_left"),
    *("input_sample", "input_row", "input_pixel", "error_sample", "error_row", "error_pixel", "threads"),
)


class _Gradient(ctypes.Structure):
    """The structure of the same name in C."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _SIZES)


def image_gradient(image: Tensor, errors: Tensor, weight: Tensor, padding: tuple[int, ...]) -> Tensor | None:
    """The gradient (N, C, H, W) of the images of a convolution whose kernel moves by one pixel.

    Args:
        image: Images (B, C, H, W), of which only size, kind and memory format are looked at.
        errors: Gradients of the outputs (N, O, H', W').
        weight: Weight (O, C, 3, 3).
        padding: Zeros around the images, above and on the left.

    Returns:
        The gradient, or None where this kernel cannot be used: it takes float32 and float64 in main memory, channels as
        the fastest dimension, and as many of them as fill vectors.
    """
    inputs, outputs = image.shape[1], errors.shape[1]
    if not (_in_lines(image) and _in_lines(errors) and library.fits(image, errors)):
        return None
    kernels = library.load(image.dtype)
    if inputs % kernels.lanes() or outputs % kernels.lanes():
        return None
    size = (len(errors), *image.shape[1:])
    gradient = torch.empty(size, dtype=image.dtype, memory_format=torch.channels_last)
    turned = weight.permute(2, 3, 0, 1).contiguous()
    threads = torch.get_num_threads()
    weights = image.new_empty(kernels.image_gradient_weights(inputs, outputs))
    room = image.new_empty(threads, kernels.image_gradient_room(inputs, outputs))
    task = _Gradient(
        len(errors), inputs, outputs, *image.shape[2:], *errors.shape[2:], *(2 - zeros for zeros in padding),
        gradient.stride(0), *gradient.stride()[2:], errors.stride(0), *errors.stride()[2:], threads,
    )  # fmt: skip
    tensors = (errors, turned, gradient, weights, room)
    kernels.image_gradient(ctypes.byref(task), *(ctypes.c_void_p(each.data_ptr()) for each in tensors))
    return gradient


def _in_lines(images: Tensor) -> bool:
    """Whether the channels of a pixel lie one behind the other in memory."""
    return images.ndim == 4 and images.stride(1) == 1 and images.numel() > 0
