"""Decoding: whatever a source holds for one row becomes an 8-bit array of the agreed size and channels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gradiometer.errors import InputError

Picture = Path | bytes | NDArray[np.uint8] | Callable[[], Image.Image] | None
"""One row as a source gives it: a file, its bytes, pixels (H, W) or (H, W, 3), a function that opens it, or nothing."""


FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded. Pillow knows more: for some it runs another program, for some it decodes when it opens."""


CHANNELS = (1, 3)
"""Channels that an image can be brought to: grey and colour."""


_SHALLOW = 1 << 12
"""Largest values of 16-bit pixels below which little is left of them in 8 bits: devices of 12 bits store less."""


class SizeMismatchError(InputError):
    """An image of another size than the rest while no size was asked for."""


@dataclass(frozen=True)
class Form:
    """What every image of a stream is brought to.

    Attributes:
        channels: 1 for grey, 3 for colour.
        height: Pixels.
        width: Pixels.
        resize: Whether an image of another size is resized (the size was asked for) or refused (it was not).
        deep: Called with the largest value of each image of 16 bits; None for nobody.
    """

    channels: int
    height: int
    width: int
    resize: bool
    deep: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def noticing(self, source: str) -> Form:
        """The same form; the first 16-bit image whose range is hardly used is a UserWarning, once for the source.

        Nothing is done about it: what one image is multiplied by, all have to be, those of the training too.

        Args:
            source: What the warning calls the source.
        """
        said = False

        def notice(largest: int) -> None:
            nonlocal said
            if said or not 0 < largest < _SHALLOW:
                return
            said = True
            warnings.warn(
                f"16-bit images of {source} use little of their range: one reaches {largest} of 65535, so that "
                f"{_eighth(largest) + 1} grey levels or fewer are left of it in 8 bits; if that is how they are "
                "stored, multiply the pixels of all images by the same number (16 for 12 bits), those of the training "
                "too, and save them again",
                UserWarning,
                stacklevel=2,
            )

        return replace(self, deep=notice)

    def apply(self, picture: Picture) -> NDArray[np.uint8]:
        """Decode one row.

        Grey becomes colour by repetition, colour becomes grey by the ITU-R BT.601 weights of Pillow; another size is
        resized with `BICUBIC`, which low-pass filters when it shrinks.

        Args:
            picture: The row as the source gives it.

        Returns:
            uint8 (channels, height, width).

        Raises:
            SizeMismatchError: If the image has another size and none was asked for.
            InputError: If the row is not an image that can be decoded; the message is the reason.
        """
        shape = (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)
        if isinstance(picture, np.ndarray) and picture.shape == shape:
            return _channels_first(picture)  # spares archives, which are uniform, the way through Pillow
        image = decode(picture, self.deep)
        if (image.height, image.width) != (self.height, self.width) and not self.resize:
            raise SizeMismatchError(
                f"the image has {image.height} x {image.width} pixels where the others have "
                f"{self.height} x {self.width}; choose one size for all with size="
            )
        return _channels_first(np.asarray(_shaped(image, self.channels, self.height, self.width)))


def form_of(picture: Picture, size: tuple[int, int] | None, channels: int | None) -> Form:
    """The form that one image has, where size or channels were not asked for.

    Args:
        picture: The first row that can be read.
        size: Height and width, or None for those of the picture.
        channels: 1 or 3, or None for those of the picture.

    Raises:
        InputError: If the picture cannot be decoded.
    """
    image = decode(picture)
    height, width = size or (image.height, image.width)
    return Form(channels or len(image.getbands()), height, width, resize=size is not None)


def decode(picture: Picture, deep: Callable[[int], None] | None = None) -> Image.Image:
    """One row as an 8-bit image.

    Transparency is dropped, palettes and CMYK become colour, black-and-white becomes grey, 16-bit grey is scaled to 8
    bits. The orientation that a camera notes beside the pixels is not applied, as training pipelines do not either.

    Args:
        picture: The row as the source gives it.
        deep: Called with the largest value of an image of 16 bits.

    Returns:
        An image in mode `L` or `RGB`, fully decoded.

    Raises:
        InputError: If it is not an image that can be decoded; the message is the reason.
    """
    if picture is None:
        raise InputError("the row holds no image")
    try:
        if isinstance(picture, np.ndarray):
            return _eight_bit(Image.fromarray(picture), deep)
        if callable(picture):
            return _eight_bit(picture(), deep)
        if isinstance(picture, Path) and not picture.is_file() and picture.exists():
            # Opening a pipe waits for somebody to write to it, for ever.
            raise InputError("it is a pipe, a socket or a device and no file; leave it out, or copy the image into one")
        with Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture), formats=FORMATS) as image:
            return _eight_bit(image, deep)
    except InputError:
        raise
    except UnidentifiedImageError:
        empty = picture == b"" or (isinstance(picture, Path) and picture.stat().st_size == 0)
        raise InputError(
            "it has zero bytes" if empty else "its bytes are not an image of a format that Pillow reads"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders fail in many ways on broken bytes; one bad row must not end the run
        detail = str(error).strip() or "no further detail"
        raise InputError(f"the image cannot be decoded ({type(error).__name__}: {detail})") from error


def resized(image: Image.Image, height: int, width: int) -> Image.Image:
    """The image at another size, by `BICUBIC`; the very same image when the size is right."""
    if (image.height, image.width) == (height, width):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _shaped(image: Image.Image, channels: int, height: int, width: int) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    return resized(image if image.mode == mode else image.convert(mode), height, width)


def _eighth(values: Any) -> Any:
    """Values of 16 bits, or one of them, as those of 8 bits."""
    return (values + 128) // 257


def _channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _eight_bit(image: Image.Image, deep: Callable[[int], None] | None) -> Image.Image:
    # Pillow opens maps of more than 8 bits (PGM) as if they had 32, and scales them to 16.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow clips 16 bits to 255 when it converts, which turns a radiograph white.
        values = np.asarray(image).astype(np.uint32)
        if deep is not None:
            deep(int(values.max(initial=0)))
        return Image.fromarray(_eighth(values).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"pixels of mode {image.mode!r} (32 bits) have no agreed range; store 8 or 16 bits")
    if image.mode in ("L", "LA", "1"):
        return image.convert("L")
    return image.convert("RGB")
