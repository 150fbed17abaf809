"""What each form of a convolution's gradient costs, from a few measured constants.

The constants are seconds on one core of one machine, but only their ratios matter: they choose between forms that are
all exact. `benchmarks/forms.py` measures every form of a list of layers, and shows what the choice loses against the
best.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

#: Seconds for one multiplication and addition in the products of the Gram form, and in the native kernel.
PRODUCT = 1 / 50e9
#: The same in the products of one kernel offset, whose factors are strided.
OFFSET_PRODUCT = 1 / 45e9
#: Seconds to move one float in an elementwise pass over activations.
MOVE = 1 / 1.5e9
#: Seconds to write and read one float of an explicit gradient, which leaves the cache.
SPILL = 1 / 1e9
#: Channels that fill the vectors of the native kernel, which pads other numbers of channels.
VECTOR = 16
#: How much slower the native kernel is when it has to pad.
RAGGED = 1.3
#: How much slower the native kernel is with more channels than two vectors.
WIDE = 2.5
#: Seconds for one multiplication and addition in a kernel of our own.
KERNEL_PRODUCT = 1 / 55e9
#: Products that each element of the gradient costs there beside those of the positions.
ELEMENT = 5.0
#: Inputs of a tile there that keep it busy; fewer take as long.
FEW = 4
#: Seconds for one multiplication and addition there in tiles of 4 x 4 positions, each of which is 36 points, ...
TILE_PRODUCT = 1 / 37e9
#: ... for a number of the images at one point, ...
POINT = 1 / 3e9
#: ... and for each element of the gradient.
TILE_ELEMENT = 1 / 2.6e9
#: How much slower products are in the kernel for depthwise convolutions, which loads a number for each of them.
LOADED = 2.0

#: Seconds for one multiplication and addition in the gradient of the images, native and in tiles, ...
IMAGE_PRODUCT, IMAGE_TILE_PRODUCT = 1 / 55e9, 1 / 41e9
#: ... for a number of images or errors in the native one, and at one point in tiles, ...
IMAGE_MOVE, IMAGE_POINT = 1 / 6e9, 1 / 4e9
#: ... and for a weight at one point.
WEIGHT_POINT = 1 / 0.75e9


@dataclass(frozen=True)
class Task:
    """The size of one convolution for one sample and one group.

    Attributes:
        positions: Output positions.
        pixels: Pixels of the padded input.
        inputs: Input channels.
        outputs: Output channels.
        kernel: Kernel offsets.
        groups: Number of groups.
        copied: Whether the windows of kernel offsets have to be copied (they need not be for a stride of 1); for the
            forms `kernel` and `winograd`, whether images have to be copied, because channels are not the fastest
            dimension in memory.
    """

    positions: int
    pixels: int
    inputs: int
    outputs: int
    kernel: int
    groups: int
    copied: bool


@functools.lru_cache(maxsize=4096)
def seconds(form: str, task: Task) -> float:
    """Estimated seconds for one sample.

    Args:
        form: `kernel`, `winograd`, `offsets`, `groups` or `gram`.
        task: The size of the convolution.
    """
    weights, images = task.inputs * task.outputs, task.pixels * task.inputs + task.positions * task.outputs
    copies = task.copied * images * MOVE
    if form == "kernel":
        if task.inputs == task.outputs == 1 < task.groups:
            return task.groups * (task.kernel * (task.positions + ELEMENT) * LOADED * KERNEL_PRODUCT + copies)
        vectors = -(-task.outputs // VECTOR) * VECTOR
        products = task.kernel * max(task.inputs, FEW) * vectors * (task.positions + ELEMENT)
        return task.groups * (products * KERNEL_PRODUCT + copies)
    if form == "winograd":
        points = 36 * -(-task.positions // 16)
        tiles = points * (weights * TILE_PRODUCT + (task.inputs + task.outputs) * POINT)
        return tiles + task.kernel * weights * TILE_ELEMENT + copies
    products = task.kernel * task.positions * weights
    if form == "gram":
        gram = task.pixels**2 * task.inputs + task.positions**2 * task.outputs
        moved = task.pixels**2 + (task.kernel + 2) * task.positions**2
        return task.groups * (gram * PRODUCT + moved * MOVE)
    if form == "offsets":
        slow = math.sqrt(max(1, 32 / task.inputs) * max(1, 32 / task.outputs))
        moved = task.kernel * (2 * weights + task.copied * task.positions * task.inputs)
        return task.groups * (products * OFFSET_PRODUCT * slow + moved * MOVE)
    slow = _padding(task.inputs, task.outputs) * (WIDE if max(task.inputs, task.outputs) > 2 * VECTOR else 1)
    return task.groups * (products * PRODUCT * slow + images * MOVE + weights * task.kernel * SPILL)


@functools.lru_cache(maxsize=4096)
def tiled_gradient(batch: int, channels: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the gradient of the images of a convolution of 3 x 3 elements is found faster in tiles than natively.

    Args:
        batch: Number of images.
        channels: Channels on both sides.
        size: Height and width of the images.
    """
    return image_seconds("winograd", batch, channels, size) < image_seconds("native", batch, channels, size)


def image_seconds(form: str, batch: int, channels: tuple[int, int], size: tuple[int, int]) -> float:
    """Estimated seconds for the gradient of the images of a convolution of 3 x 3 elements that moves by one pixel.

    Args:
        form: `native` or `winograd`.
        batch: Number of images.
        channels: Channels on both sides.
        size: Height and width of the images.
    """
    weights, numbers, (height, width) = math.prod(channels), sum(channels), size
    if form == "native":
        return batch * height * width * (9 * weights * IMAGE_PRODUCT + numbers * IMAGE_MOVE)
    tiles = batch * -(-height // 4) * -(-width // 4)
    return 36 * (tiles * (weights * IMAGE_TILE_PRODUCT + numbers * IMAGE_POINT) + weights * WEIGHT_POINT)


def _padding(inputs: int, outputs: int) -> float:
    """How much slower the native kernel is because channels do not fill its vectors; depthwise ones are special."""
    if inputs == outputs == 1:
        return RAGGED
    if inputs % VECTOR == outputs % VECTOR == 0:
        return 1.0
    return RAGGED * (-inputs % VECTOR + inputs) / inputs * (-outputs % VECTOR + outputs) / outputs
