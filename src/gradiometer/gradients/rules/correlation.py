"""The gradient of a convolution weight: a correlation of input and error, read in the cheapest of five exact forms.

For one sample with C input channels, O output channels, P output positions and K kernel offsets:

* `offsets`: matrix products (O x P)(P x C), one for each kernel offset, on shifted views of the padded input. Where
  channels are the fastest dimension in memory, the offsets of a kernel row are neighbours, and positions p, p + k,
  p + 2k, ... of a kernel row of k elements are rows of k C numbers that do not overlap: k products (O x P/k)(P/k x k C)
  do the whole kernel row. Patches are copied only where windows move by more than one pixel or channels are few.
* `groups`: the native weight gradient of a convolution whose groups are the samples; good for few channels. Large
  depthwise convolutions are given to the native kernel a sample at a time: theirs is fast only in its own format.
* `gram`: the squared norm is the inner product of two P x P Gram matrices, that of the errors and that of the patches.
  The patch Gram matrix is a sum over kernel offsets of shifted blocks of the pixel Gram matrix of the padded input,
  taken one dimension of the kernel after the other, so patches never appear and the cost is P^2 (C + O + K) instead of
  K P O C.
* `kernel`: statistics of the explicit gradient, of which only a tile exists at a time, by kernels of our own (one for
  depthwise convolutions) where there is a compiler for them; see `gradiometer.gradients.kernels`.
* `winograd`: the same for kernels of 3 x 3 that move by one pixel, tile by tile with a quarter of the products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients import kernels
from gradiometer.gradients.factors import CHUNK, Factor, Sides, sum_of_squares, wide
from gradiometer.gradients.rules import costs
from gradiometer.gradients.rules.choice import ROWS, chosen
from gradiometer.gradients.rules.geometry import Geometry, Lines
from gradiometer.gradients.stacked import again

#: Positions that one product of at least `ROWS` rows adds up: with more, its factors leave the innermost cache.
_POSITIONS = 128
#: Positions from which one sample keeps the native kernel of depthwise convolutions busy.
_MANY = 196
#: Forms that are kernels of our own.
_KERNELS = ("kernel", "winograd")
#: Bytes of inputs and errors, and of Gram matrices, that are worked on at once: a share of the outer cache.
_CACHED, _GRAMS = 4 * 2**20, 8 * 2**20


class Correlation(Factor):
    """Gradient of a convolution weight (O, C / groups, *kernel).

    Args:
        inputs: Inputs (B, R, C, *pixels); R is 1 unless several frames of a sample are folded into the batch.
        errors: Gradients of the outputs (B, R, O, *positions); or (L B, ...), those of L labels for all samples, one
            behind the other. Then there are L B gradients.
        geometry: How the kernel moves.
    """

    def __init__(self, inputs: Tensor, errors: Tensor, geometry: Geometry) -> None:
        self._shared, self.errors, self.geometry = wide(inputs), wide(errors), geometry
        self._labels = len(errors) // len(inputs)
        self._outputs = tuple(errors.shape[3:])
        self._positions = math.prod(self._outputs)
        self._channels = inputs.shape[2] // geometry.groups, errors.shape[2] // geometry.groups
        self._depthwise = self._channels[0] == 1 < geometry.groups and self._positions >= _MANY
        self._window = (
            geometry.on_images() if inputs.shape[1] == 1 and kernels.fits(self._shared, self.errors) else None
        )
        shape = torch.Size((errors.shape[2], self._channels[0], *geometry.kernel))
        super().__init__(len(errors), shape)
        apart = any(tensor.shape[2] > 1 and tensor.stride(2) > 1 for tensor in (self._shared, self.errors))
        self._chosen = chosen(
            geometry, tuple(inputs.shape[1:3]), tuple(errors.shape[2:]), self._kernels(), costs.seconds, apart=apart
        )
        self._lines, self._patches = self._chosen.lines, self._chosen.task.copied
        self.explicit_form, self.form = self._chosen.explicit, self._chosen.form

    @functools.cached_property
    def inputs(self) -> Tensor:
        """The inputs of each gradient, copied for each label. Keeps the memory format."""
        if self._labels == 1:
            return self._shared
        copies: Tensor = again(self._shared.flatten(0, 1), self._labels).unflatten(0, (self.batch, -1))
        return copies

    def _kernels(self) -> tuple[str, ...]:
        """The forms that kernels of our own have."""
        if self._window is None:
            return ()
        return _KERNELS if kernels.in_tiles(*self._images(), self._window) else _KERNELS[:1]

    @property
    def by_kernel(self) -> bool:
        """Whether a kernel of our own is the cheapest form; it gives statistics by output channel."""
        return self.form in _KERNELS

    def gradients(self, start: int, stop: int) -> Tensor:
        """Explicit gradients (stop - start, O, C / groups, *kernel)."""
        if self.explicit_form == "groups":
            return self._by_groups(start, stop)
        found = torch.cat(list(self._by_offset(start, stop)), 3)
        return found.movedim(3, 4).reshape(stop - start, *self.shape)

    def squared_norms(self) -> Tensor:
        """Squared norms (B,)."""
        if self.by_kernel:
            return self.rows().squares.sum(1)
        if self.form == "gram":
            return torch.cat([self._gram(*bounds) for bounds in self._gram_chunks()], 1).flatten()
        if self.form == "groups":
            return super().squared_norms()
        parts = []
        for bounds in self.chunks():
            each = [sum_of_squares(part) for part in self._by_offset(*bounds)]
            parts.append(torch.stack(each).sum(0))
        return torch.cat(parts)

    def absolute_sums(self) -> Tensor:
        """L1 norms (B,)."""
        if not self.by_kernel:
            return super().absolute_sums()
        magnitudes = self.rows(magnitudes=True).magnitudes
        assert magnitudes is not None
        return magnitudes.sum(1)

    def rows(self, *, magnitudes: bool = False, totals: bool = False, reference: Tensor | None = None) -> kernels.Rows:
        """Statistics by output channel, where there are kernels; see `kernels.rows`."""
        assert self._window is not None
        inputs, errors = self._images()
        reference = None if reference is None else self._as_image(reference)
        tiles = self._kernel == "winograd"
        return kernels.rows(inputs, errors, reference, self._window, magnitudes=magnitudes, totals=totals, tiles=tiles)

    def products(self, reference: Tensor) -> Tensor:
        """Inner products by output channel (B, O), where there are kernels."""
        assert self._window is not None
        reference, tiles = self._as_image(reference), self._kernel == "winograd"
        return kernels.products(*self._images(), reference, self._window, tiles=tiles)

    @property
    def _kernel(self) -> str:
        """The kernel that is the form, or else the cheaper one."""
        if self.by_kernel:
            return self.form
        prices = self._chosen.prices
        return min((form for form in prices if form in _KERNELS), key=lambda form: prices[form])

    def _images(self) -> tuple[Tensor, Tensor]:
        """Inputs (B, C, height, width) and errors (L B, O, height, width)."""
        return self._as_image(self._shared[:, 0]), self._as_image(self.errors[:, 0])

    def _as_image(self, lines: Tensor) -> Tensor:
        """A line is an image of height 1."""
        return lines.unsqueeze(2) if len(self._outputs) == 1 else lines

    def sides(self, directions: int) -> Sides | None:
        """Both sides where that is cheaper: several directions cost as much as one with that many times the outputs."""
        task = replace(self._chosen.task, outputs=directions * self._channels[1])
        if self._shared.shape[1] > 1 or costs.seconds("gram", task) >= costs.seconds(self.explicit_form, task):
            return None
        groups, length = self.geometry.groups, self._positions if self._lines is None else self._lines.length
        return Sides(
            lambda start, stop: self._patch_grams(start, stop).unflatten(0, (stop - start, groups)),
            lambda start, stop: self._flat_errors(start, stop).unflatten(0, (stop - start, groups)),
            2 * groups * task.pixels**2,
            self.shape[0] * length,
        )

    def inner_products(self, reference: Tensor) -> Tensor:
        """Inner products (B,), by our own kernel or one more forward pass of the layer with the reference as weight."""
        if self.by_kernel:
            return self.products(reference).sum(1)
        batch, frames = self.errors.shape[:2]
        convolve: Any = (
            torch.nn.functional.conv1d,
            torch.nn.functional.conv2d,
            torch.nn.functional.conv3d,
        )[len(self._outputs) - 1]
        geometry, inputs = self.geometry, self.inputs.flatten(0, 1)
        padding = [before for before, _ in geometry.padding]
        if any(before != after for before, after in geometry.padding):
            inputs, padding = geometry.pad(inputs, self._outputs), [0] * len(padding)
        outputs: Tensor = convolve(
            inputs, reference.to(inputs.dtype), None, geometry.stride, padding, geometry.dilation, geometry.groups
        )
        products = outputs * self.errors.flatten(0, 1)
        return products.sum(tuple(range(1, products.ndim))).view(batch, frames).sum(1)

    def alignments(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products and squared norms, from one pass of the kernel where both together are cheapest so."""
        if not self.by_kernel and not (self._window is not None and self._chosen.prices[self._kernel] < self._apart()):
            return super().alignments(reference)
        found = self.rows(reference=reference)
        assert found.products is not None
        return found.products.sum(1), found.squares.sum(1)

    def _apart(self) -> float:
        """What both cost one after the other: the form of the norm, and a forward pass of the layer."""
        return self._chosen.prices[self.form] + math.prod(self.geometry.kernel) * self._positions * self.shape[0] * (
            self._channels[0] * costs.PRODUCT
        )

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Ranges of samples whose explicit gradients, or those of one product, fit into a chunk."""
        held = self._shared[0].numel() + self.errors[0].numel()
        if self._patches and self.explicit_form == "offsets":
            held += self._shared.shape[1:3].numel() * self._positions * math.prod(self.geometry.kernel)
        explicit = self.shape.numel()
        if not self._patches and self._lines is not None and self.explicit_form == "offsets":
            explicit = self.shape[:2].numel() * self._lines.run
        step = max(1, min(CHUNK // (4 * explicit), min(_CACHED, CHUNK) // (4 * held)))
        for start in range(0, self.batch, step):
            yield start, min(start + step, self.batch)

    def _by_offset(self, start: int, stop: int) -> Iterator[Tensor]:
        """The gradients (b, groups, O / groups, k, C / groups) of k kernel elements at a time, in order."""
        batch, groups, (channels, outputs) = stop - start, self.geometry.groups, self._channels
        padded = self.geometry.pad(self.inputs[start:stop].flatten(0, 1), self._outputs)
        errors = self.errors[start:stop]
        if self._patches or self._lines is None:
            yield self._by_patches(padded.unflatten(0, (batch, -1)), errors)
            return
        pixels = padded.reshape(batch, groups, channels, -1)
        left = self._lines.spread(errors.flatten(0, 1)).reshape(batch, groups, outputs, -1)
        if groups == 1 and self._lines.run > 1 and pixels.stride(2) == 1 and pixels.stride(3) == channels:
            yield from _kernel_rows(left, pixels, self._lines)
            return
        for shift in self._lines.shifts:
            yield (left @ pixels[..., shift : shift + self._lines.length].mT).unsqueeze(3)

    def _by_patches(self, padded: Tensor, errors: Tensor) -> Tensor:
        """The whole gradient from patches that are copied together."""
        batch, frames = errors.shape[:2]
        groups, (channels, outputs) = self.geometry.groups, self._channels
        left = errors.reshape(batch, frames, groups, outputs, -1).movedim(1, 3).flatten(3)
        if (patches := self._rows_of_windows(padded)) is not None:
            whole: Tensor = left @ patches
            return whole.view(batch, 1, outputs, -1, channels)
        windows = [
            padded[(slice(None),) * 3 + self.geometry.window(offset, self._outputs)].movedim(2, -1)
            for offset in self.geometry.offsets()
        ]
        patches = torch.stack(windows, -2).view(batch, frames * self._positions, -1, groups, channels)
        right = patches.movedim(3, 1).flatten(3)
        gradients: Tensor = left @ right
        return gradients.view(batch, groups, outputs, -1, channels)

    def _rows_of_windows(self, padded: Tensor) -> Tensor | None:
        """Patches (B, 1, positions, k C) of images (B, 1, C, height, width), a row of each window at a time.

        None unless channels are the fastest dimension in memory, so that the pixels of a row follow each other.
        """
        geometry = self.geometry
        plain = geometry.groups == 1 == padded.shape[1] and len(self._outputs) == 2 and geometry.dilation[1] == 1
        channels = padded.shape[2]
        if not plain or padded.stride(2) != 1 or padded.stride(4) != channels:
            return None
        sample, row = padded.stride(0), padded.stride(3)
        (high, across), (down, right) = geometry.kernel, geometry.stride
        windows = padded.as_strided(
            (len(padded), *self._outputs, high, across * channels),
            (sample, down * row, right * channels, geometry.dilation[0] * row, 1),
        )
        return windows.reshape(len(padded), 1, self._positions, -1)

    def _by_groups(self, start: int, stop: int) -> Tensor:
        """Explicit gradients by the native kernel, with samples in place of groups."""
        batch, geometry = stop - start, self.geometry
        inputs, errors = self.inputs[start:stop], self.errors[start:stop]
        padding = [before for before, _ in geometry.padding]
        if any(before != after for before, after in geometry.padding):
            inputs = geometry.pad(inputs.flatten(0, 1), self._outputs).unflatten(0, (batch, -1))
            padding = [0] * len(padding)
        if self._depthwise:
            pairs = zip(inputs, errors, strict=True)
            return torch.stack([self._native(*pair, padding, 1) for pair in pairs])
        inputs, errors = inputs.transpose(0, 1).flatten(1, 2), errors.transpose(0, 1).flatten(1, 2)
        return self._native(inputs, errors, padding, batch).reshape(batch, *self.shape)

    def _native(self, inputs: Tensor, errors: Tensor, padding: list[int], samples: int) -> Tensor:
        """The native weight gradient of images (R, C, *pixels) of one or several samples side by side."""
        geometry = self.geometry
        weight = inputs.new_empty(samples * self.shape[0], *self.shape[1:])
        gradient: Tensor
        _, gradient, _ = torch.ops.aten.convolution_backward(
            errors, inputs, weight, None, geometry.stride, padding, geometry.dilation, False, [0] * len(padding),
            samples * geometry.groups, (False, True, False),
        )  # fmt: skip
        return gradient

    def _gram(self, start: int, stop: int) -> Tensor:
        """Squared norms (L, b) of a range of samples from Gram matrices of pixels and of errors."""
        gram, found = self._patch_grams(start, stop), []
        for first in range(0, self.batch, len(self._shared)):
            flat = self._flat_errors(first + start, first + stop)
            products = (flat.mT @ flat).mul_(gram).flatten(1).sum(1)
            found.append(products.view(stop - start, self.geometry.groups).sum(1))
        return torch.stack(found)

    def _patch_grams(self, start: int, stop: int) -> Tensor:
        """Gram matrices (b groups, P, P) of the patches of a range of samples, from those of pixels."""
        padded = self.geometry.pad(self._shared[start:stop, 0], self._outputs)
        pixels = padded.reshape((stop - start) * self.geometry.groups, self._channels[0], -1)
        gram = pixels.mT @ pixels
        if self._lines is not None:
            return _patch_gram(gram, self._lines)
        gram = gram.view(-1, *padded.shape[2:], *padded.shape[2:])
        windows = (self.geometry.window(offset, self._outputs) for offset in self.geometry.offsets())
        blocks = (gram[(slice(None), *window, *window)] for window in windows)
        return torch.stack([block.flatten(-len(self._outputs)).flatten(1, -2) for block in blocks]).sum(0)

    def _flat_errors(self, start: int, stop: int) -> Tensor:
        """Errors (b groups, O / groups, P) of a range of samples, spread to the positions of the Gram matrices."""
        errors = self.errors[start:stop, 0]
        errors = errors if self._lines is None else self._lines.spread(errors)
        return errors.reshape((stop - start) * self.geometry.groups, self._channels[1], -1)

    def _gram_chunks(self) -> Iterator[tuple[int, int]]:
        pixels = math.prod(self.geometry.reach(self._outputs))
        step = max(1, min(_GRAMS, CHUNK) // (4 * self.geometry.groups * (pixels**2 + 2 * self._positions**2)))
        for start in range(0, len(self._shared), step):
            yield start, min(start + step, len(self._shared))


def _kernel_rows(left: Tensor, pixels: Tensor, lines: Lines) -> Iterator[Tensor]:
    """The gradients (b, 1, O, k, C) of one kernel row of k elements after the other.

    Args:
        left: Spread errors (b, 1, O, length).
        pixels: Padded inputs (b, 1, C, N), of which channels are the fastest dimension in memory.
        lines: Where the positions lie.
    """
    batch, _, channels, _ = pixels.shape
    run = lines.run
    errors = left[:, 0].mT
    for first in lines.shifts[::run]:
        total: Tensor | None = None
        for turn in range(run):
            part = errors[:, turn::run]
            rows = pixels.as_strided(
                (batch, part.shape[1], run * channels),
                (pixels.stride(0), run * channels, 1),
                pixels.storage_offset() + (first + turn) * channels,
            )
            step = _POSITIONS if left.shape[2] >= ROWS else part.shape[1]
            for at in range(0, part.shape[1], step):
                factors = part[:, at : at + step].mT, rows[:, at : at + step]
                total = torch.bmm(*factors) if total is None else total.baddbmm_(*factors)
        assert total is not None
        yield total.view(batch, 1, -1, run, channels)


def _patch_gram(gram: Tensor, lines: Lines) -> Tensor:
    """The Gram matrix (b, length, length) of patches from that of pixels: sums of shifted blocks, axis by axis."""
    for taps in reversed(lines.taps):
        kept = gram.shape[1] - taps[-1]
        blocks = [gram[:, tap : tap + kept, tap : tap + kept] for tap in taps]
        if len(blocks) > 1:
            gram = blocks[0] + blocks[1]
            for block in blocks[2:]:
                gram += block
    return gram[:, : lines.length, : lines.length]
