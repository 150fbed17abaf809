"""Statistics of the weight gradients of convolutions, by the kernels in `correlation.c` and `depthwise.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradiometer.gradients.kernels import library

_SIZES = (
    *("batch", "samples", "groups", "inputs", "outputs", "padded", "height", "width", "rows", "columns"),
    *("kernel_high", "kernel_wide", "stride_down", "stride_right", "padding_top", "padding_left"),
    *("dilation_down", "dilation_right", "input_sample", "input_row", "input_pixel"),
    *("error_sample", "error_row", "error_pixel", "threads"),
)


class _Correlation(ctypes.Structure):
    """The structure of the same name in C."""

    _fields_ = tuple((name, ctypes.c_int64) for name in _SIZES)


class _Results(ctypes.Structure):
    """The structure of the same name in C."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("squares", "magnitudes", "totals", "products", "reference"))


@dataclass(frozen=True)
class Rows:
    """Sums over all that belongs to an output channel of a weight, (B, O) each.

    Attributes:
        squares: Of squares of the gradient.
        magnitudes: Of absolute values, if asked for.
        totals: Of the errors themselves, the gradient of a bias, if asked for.
        products: Of products with a reference, if there is one.
    """

    squares: Tensor
    magnitudes: Tensor | None = None
    totals: Tensor | None = None
    products: Tensor | None = None


@dataclass(frozen=True)
class Window:
    """How a kernel moves over images, with two numbers for each: height before width.

    Attributes:
        kernel: Its size.
        stride: Steps.
        padding: Zeros above and on the left; on the other sides there are as many as it takes.
        dilation: Distances between its elements.
        groups: Groups of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def by_pixel(self) -> bool:
        """Whether a kernel of 3 x 3 elements moves by one pixel, as Winograd's minimal filtering takes it."""
        return self.kernel == (3, 3) and self.stride == self.dilation == (1, 1) and self.groups == 1


def rows(
    inputs: Tensor,
    errors: Tensor,
    reference: Tensor | None,
    window: Window,
    *,
    magnitudes: bool = False,
    totals: bool = False,
    tiles: bool = False,
) -> Rows:
    """Statistics of the gradients of a weight (O, C / groups, *kernel) for each sample.

    Args:
        inputs: Images (B, C, H, W); channels are the fastest dimension in memory, or are copied to be.
        errors: Gradients of the outputs (B, O, H', W'), likewise; or (L B, O, H', W'), those of L labels one behind the
            other. Then there are as many statistics.
        reference: A tensor of the shape of the weight to take products with, or None.
        window: How the kernel moves.
        magnitudes: Whether sums of absolute values are wanted.
        totals: Whether sums of the errors are wanted.
        tiles: Whether they are found by Winograd's minimal filtering, for images that `in_tiles` accepts.
    """
    wanted = {"squares": True, "magnitudes": magnitudes, "totals": totals, "products": reference is not None}
    asked = [name for name, is_asked in wanted.items() if is_asked]
    return Rows(**_found(inputs, errors, reference, window, asked, tiles=tiles))


def products(inputs: Tensor, errors: Tensor, reference: Tensor, window: Window, *, tiles: bool = False) -> Tensor:
    """Sums (B, O) of products of the gradients with a reference, and nothing else; see `rows`."""
    return _found(inputs, errors, reference, window, ["products"], tiles=tiles)["products"]


def in_tiles(inputs: Tensor, errors: Tensor, window: Window) -> bool:
    """Whether `winograd_weight.c` can read these images, whose channels have to fill vectors."""
    lanes = library.load(inputs.dtype).lanes()
    return window.by_pixel and inputs.shape[1] % lanes == errors.shape[1] % lanes == 0


def _found(
    inputs: Tensor,
    errors: Tensor,
    reference: Tensor | None,
    window: Window,
    wanted: Sequence[str],
    *,
    tiles: bool = False,
) -> dict[str, Tensor]:
    """Some of the fields of `Rows`, by name."""
    kernels = library.load(inputs.dtype)
    inputs, errors = _channels_fastest(inputs), _channels_fastest(errors)
    batch, outputs = len(errors), errors.shape[1] // window.groups
    depthwise = inputs.shape[1] == errors.shape[1] == window.groups > 1
    lanes = 1 if depthwise else kernels.lanes()
    padded = -(-outputs // lanes) * lanes
    found = dict(zip(wanted, inputs.new_zeros(len(wanted), batch, window.groups, padded), strict=True))
    given = found
    if reference is not None:
        given = found | {"reference": _arranged(reference.to(inputs.dtype), window, padded, depthwise=depthwise)}
    if errors.numel():
        sizes = _task(inputs, errors, window, padded)
        task = ctypes.byref(sizes)
        first, then = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (inputs, errors))
        results = ctypes.byref(_Results(**{name: tensor.data_ptr() for name, tensor in given.items()}))
        if tiles:
            room = inputs.new_empty(sizes.threads, kernels.correlate_tiles_room(task))
            kernels.correlate_tiles(task, first, then, results, ctypes.c_void_p(room.data_ptr()))
        elif depthwise:
            kernels.depthwise(task, first, then, results)
        else:
            end = ctypes.c_void_p(errors.data_ptr() + _extent(errors) * errors.element_size())
            kernels.correlate(task, first, then, end, results)
    return {name: tensor[..., :outputs].flatten(1) for name, tensor in found.items()}


def _arranged(reference: Tensor, window: Window, padded: int, *, depthwise: bool) -> Tensor:
    """The reference (O, C / groups, *kernel) in the order in which a kernel reads it."""
    if depthwise:
        return reference.permute(2, 3, 1, 0).contiguous()
    arranged = reference.unflatten(0, (window.groups, -1)).permute(0, 3, 4, 2, 1)
    missing = padded - arranged.shape[-1]
    return (torch.nn.functional.pad(arranged, (0, missing)) if missing else arranged).contiguous()


def _channels_fastest(images: Tensor) -> Tensor:
    """Images whose channels follow each other in memory, and whose pixels do not share it."""
    if images.stride(1) == 1 and min(images.stride()) > 0:
        return images
    return images.clone(memory_format=torch.channels_last)


def _extent(tensor: Tensor) -> int:
    """Elements from the first to behind the last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


def _task(inputs: Tensor, errors: Tensor, window: Window, padded: int) -> _Correlation:
    return _Correlation(
        *(len(errors), len(inputs), window.groups),
        *(inputs.shape[1] // window.groups, errors.shape[1] // window.groups, padded),
        *(inputs.shape[2], inputs.shape[3], errors.shape[2], errors.shape[3]),
        *window.kernel, *window.stride, *window.padding, *window.dilation,
        *(inputs.stride(0), inputs.stride(2), inputs.stride(3)),
        *(errors.stride(0), errors.stride(2), errors.stride(3)),
        torch.get_num_threads(),
    )  # fmt: skip
