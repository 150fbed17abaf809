"""How a scan becomes what the auto-encoder sees: its size, its channels, its tiles, its contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gradiometer.data import to_bytes
from gradiometer.data.decode import Form
from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

Contrast = Literal["as-is", "standard", "local"]
"""What is done to the pixels of a scan before the auto-encoder sees them."""

_MIDDLE, _SPREAD = 0.5, 0.15
"""Mean and standard deviation that `standard` and `local` give to the pixels of a scan, in [0, 1]."""

_FLAT = 1e-3
"""Standard deviation below which a scan has no contrast that could be brought to another."""

_AT_ONCE = 256
"""Scans whose contrast is looked at in one go."""

_LOCAL = 0.1
"""Standard deviation of the filter of `local`, as a share of the shorter side of the scan."""


@dataclass(frozen=True)
class Preparation:
    """How scans of any size become inputs of the auto-encoder.

    A scan is brought to a number of channels, resized when `size` says so, its contrast is normalised, and it is cut
    into tiles when `tile` says so. Tiles cover the whole scan; where the side is no multiple of theirs they overlap.

    | contrast | what the auto-encoder sees |
    |---|---|
    | `as-is` | the pixels, whatever they are |
    | `standard` | each channel of each scan with mean 0.5 and standard deviation 0.15: no brightness, no colour cast |
    | `local` | the same, after the scan's own blurred version is taken away: no slow changes of brightness either |

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: Height and width that scans are resized to; None leaves them.
        tile: Height and width of the tiles; None for the whole scan.
        contrast: See above.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> prepared = Preparation(channels=1, tile=16).apply(torch.zeros(2, 3, 40, 32, dtype=torch.uint8))
        >>> tuple(prepared.shape)
        (2, 6, 1, 16, 16)
    """

    channels: int = 3
    size: tuple[int, int] | None = None
    tile: int | None = None
    contrast: Contrast = "as-is"

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.channels not in (1, 3):
            raise InputError(f"channels is {self.channels}; give 1 for grey or 3 for colour")
        if self.contrast not in get_args(Contrast):
            raise InputError(f"contrast must be one of {', '.join(get_args(Contrast))}, got {self.contrast!r}")
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"size is {self.size}; give a height and a width of 1 or more pixels")
        if self.tile is not None and self.tile < 1:
            raise InputError(f"tile is {self.tile}; give 1 or more pixels, or None for the whole scan")

    def apply(self, scans: Any, names: Sequence[str] | None = None) -> Tensor:
        """The inputs of the auto-encoder.

        Args:
            scans: `data.Images`, or a tensor or array (N, K, H, W), uint8 or floating point in [0, 1].
            names: What messages call the scans; their own names, or numbers, when None.

        Returns:
            uint8 (N, T, channels, h, w), T tiles of each scan in reading order.

        Raises:
            InputError: The scans are no images, smaller than a tile, or without any contrast that could be normalised:
                black, white or of one colour.
        """
        pixels = self._formed(_bytes(scans))
        if self.contrast != "as-is":
            called = names or getattr(scans, "names", None) or numbered(len(pixels))
            pixels = _normalised(pixels, called, local=self.contrast == "local")
        if self.tile is None:
            return pixels.unsqueeze(1)
        parts = [pixels[..., y : y + self.tile, x : x + self.tile] for y, x in self.places(*pixels.shape[-2:])]
        return torch.stack(parts, dim=1)

    def blank(self, scans: Any) -> npt.NDArray[np.bool_]:
        """Which scans `apply` refuses, since they have no contrast that could be normalised.

        Args:
            scans: As for `apply`.

        Returns:
            (N,), False everywhere under `as-is`.
        """
        pixels = _bytes(scans)
        if self.contrast == "as-is":
            return np.zeros(len(pixels), dtype=np.bool_)
        parts = [_moments(self._formed(part), local=self.contrast == "local") for part in pixels.split(_AT_ONCE)]
        return np.concatenate([_is_flat(spread) for _, _, spread in parts])

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Top left corner of each tile of a scan, in reading order.

        Raises:
            InputError: The scan is smaller than a tile.
        """
        if self.tile is None:
            return [(0, 0)]
        rows, columns = (_starts(side, self.tile) for side in (height, width))
        return [(y, x) for y in rows for x in columns]

    def whole(self, maps: Floats, height: int, width: int) -> Floats:
        """Maps of scans from those of their tiles.

        Args:
            maps: (N, T, h, w).
            height: Of the scans as the auto-encoder sees them.
            width: The same.

        Returns:
            (N, height, width); where tiles overlap, their mean.
        """
        if self.tile is None:
            return maps[:, 0]
        sums, counts = np.zeros((len(maps), height, width)), np.zeros((height, width))
        for number, (y, x) in enumerate(self.places(height, width)):
            sums[:, y : y + self.tile, x : x + self.tile] += maps[:, number]
            counts[y : y + self.tile, x : x + self.tile] += 1
        return sums / counts

    def _formed(self, pixels: Tensor) -> Tensor:
        height, width = self.size or (pixels.shape[-2], pixels.shape[-1])
        if (self.channels, height, width) == tuple(pixels.shape[1:]):
            return pixels
        form = Form(self.channels, height, width, resize=True)
        pictures = pixels.permute(0, 2, 3, 1).squeeze(-1).numpy()
        return torch.from_numpy(np.stack([form.apply(np.ascontiguousarray(picture)) for picture in pictures]))


def pixels_of(scans: Any) -> Tensor:
    """The pixels of scans as they come.

    Raises:
        InputError: The scans are neither images nor anything that a tensor is made of.
    """
    try:
        return torch.as_tensor(getattr(scans, "images", scans))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"scans must be data.Images, or one tensor or array (N, channels, height, width), got {_said(scans)}; load "
            "files with data.load, and put tensors together with torch.stack"
        ) from None


def numbered(count: int) -> tuple[str, ...]:
    """What messages call scans that have no names."""
    return ("the scan",) if count == 1 else tuple(f"scan {row}" for row in range(count))


def _said(scans: Any) -> str:
    return repr(scans) if scans is None or isinstance(scans, str) else f"a {type(scans).__name__}"


def _bytes(scans: Any) -> Tensor:
    pixels = pixels_of(scans).cpu()
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape:
        raise InputError(
            f"scans must be (N, channels, height, width) with 1 or 3 channels, got shape {tuple(pixels.shape)}"
        )
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise InputError(f"scans must be uint8, or floating point in [0, 1], got {pixels.dtype}")
    if not bool(torch.isfinite(pixels).all()) or float(pixels.min()) < 0 or float(pixels.max()) > 1:
        raise InputError("scans of floating point must be finite and in [0, 1]; divide by the largest possible value")
    return to_bytes(pixels)


def _starts(side: int, tile: int) -> list[int]:
    if side < tile:
        raise InputError(f"a scan of {side} pixels is smaller than a tile of {tile}; choose smaller tiles, or resize")
    count = -(-side // tile)
    return [round(start) for start in np.linspace(0, side - tile, count)]


def _normalised(pixels: Tensor, names: Sequence[str], *, local: bool) -> Tensor:
    """Scans (N, K, H, W) uint8 with the same mean and spread in each channel; clipped to what a byte holds."""
    values, mean, spread = _moments(pixels, local=local)
    flat = np.flatnonzero(_is_flat(spread))
    if len(flat):
        # Made the even grey of all such scans, it would be as near to healthy ones as can be.
        raise InputError(
            f"{names[flat[0]]} has no contrast: it is black, white or of one colour, and nothing can be said about it; "
            "leave it out"
        )
    # A channel without contrast stays flat: its noise is not a picture.
    scaled = _MIDDLE + _SPREAD * (values - mean) / np.where(spread > _FLAT, spread, np.inf)
    return to_bytes(torch.from_numpy(np.clip(scaled, 0, 1)))


def _moments(pixels: Tensor, *, local: bool) -> tuple[Floats, Floats, Floats]:
    """Values of scans (N, K, H, W), less their slow changes where asked, with mean and spread (N, K, 1, 1)."""
    values = pixels.numpy().astype(np.float64) / 255
    if local:
        blur = _LOCAL * min(values.shape[-2:])
        values = values - gaussian_filter(values, (0, 0, blur, blur))
    return values, values.mean((2, 3), keepdims=True), values.std((2, 3), keepdims=True)


def _is_flat(spread: Floats) -> npt.NDArray[np.bool_]:
    """Which scans have no channel with a contrast."""
    flat: npt.NDArray[np.bool_] = spread.max(axis=(1, 2, 3)) <= _FLAT
    return flat
