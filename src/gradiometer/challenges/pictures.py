"""Pictures that no one has to download: letters from fonts, crops of photographs and of textures.

They come with matplotlib and scikit-image (extra `report`) and with scikit-learn. Each picture is its own base image,
so crops of one photograph never end up on both sides of a split; with few base pictures, shares are met only roughly.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gradiometer.data import Images
from gradiometer.errors import DependencyError, InputError

LETTERS = "ACEFHKLMNPRTUVWXYadefhkmnrt"
"""Letters that cannot be taken for a digit, by shape alone since each fills the image whatever its case.

Left out: O o Q D (0), I i l J j (1), Z z (2), y (4), S s (5), G b (6), B (8), g q (9), and the small letters
c p u v w x, which are their capitals over again.
"""

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "BolIta", "Italic")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
"""Text fonts among those that come with matplotlib."""

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "china.jpg",
    "coffee.png",
    "flower.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
"""Colour photographs inside the wheels of scikit-image and scikit-learn."""

TEXTURES = ("brick.png", "grass.png", "gravel.png")
"""Grey textures of 512 x 512 pixels inside the wheel of scikit-image."""

_FINE = 8
"""Letters are drawn this much larger and averaged down, block by block, as scikit-learn's digits were made."""


def letters(size: int, count: int, seed: int = 0, channels: int = 1) -> Images:
    """Letters, white on black like handwritten digits, in the fonts that come with matplotlib.

    Font, scale, place and slant vary. A letter fills 90 to 100 percent of the height, or of the width if it is wide.

    Args:
        size: Height and width in pixels, at least 4.
        count: How many; every letter of `LETTERS` comes equally often, give or take one.
        seed: Chooses fonts, scales, places and slants.
        channels: 1, or 3 for three equal ones.

    Returns:
        `count` images. The label is the letter, the base image the letter in its font.

    Raises:
        InputError: If size, count or channels are out of range.
        DependencyError: If matplotlib is not installed.

    Example:
        >>> drawn = letters(8, 50, seed=1)
        >>> drawn.images.shape, drawn.classes[int(drawn.labels[0])]
        (torch.Size([50, 1, 8, 8]), 'A')
    """
    _check(size, count, channels, least=4)
    random = np.random.default_rng(seed)
    pixels = np.empty((count, size, size), np.uint8)
    labels = np.arange(count) % len(LETTERS)
    fonts = random.integers(len(FONTS), size=count)
    for row in range(count):
        pixels[row] = _letter(LETTERS[labels[row]], FONTS[fonts[row]], size, random)
    return Images(
        images=_stacked(pixels, channels),
        labels=torch.from_numpy(labels.astype(np.int64)),
        names=tuple(f"letter {LETTERS[labels[row]]} {FONTS[fonts[row]]}#{row}" for row in range(count)),
        groups=torch.from_numpy(labels * len(FONTS) + fonts),
        classes=tuple(LETTERS),
    )


def photographs(size: int, count: int, seed: int = 0, channels: int = 3) -> Images:
    """Square crops of photographs, shrunk with `BICUBIC` as images of data sets are.

    A crop measures from 64 pixels (or `size`, if that is more) to the whole height.

    Args:
        size: Height and width in pixels, at most that of the smallest photograph (300).
        count: How many; every photograph of `PHOTOGRAPHS` is cropped equally often, give or take one.
        seed: Chooses the crops.
        channels: 3, or 1 for grey.

    Returns:
        `count` images without labels; the base image is the photograph.

    Raises:
        InputError: If size, count or channels are out of range.
        DependencyError: If scikit-image is not installed.
    """
    return _crops(PHOTOGRAPHS, size, count, seed, channels, least=max(size, 64), most=None)


def textures(size: int, count: int, seed: int = 0, channels: int = 1) -> Images:
    """Square crops of brick, grass and gravel.

    A crop measures from `size` to four times that, so that shrinking does not average the texture away.

    Args:
        size: Height and width in pixels, at most 512.
        count: How many; every texture of `TEXTURES` is cropped equally often, give or take one.
        seed: Chooses the crops.
        channels: 1, or 3 for three equal ones.

    Returns:
        `count` images without labels; the base image is the texture.

    Raises:
        InputError: If size, count or channels are out of range.
        DependencyError: If scikit-image is not installed.
    """
    return _crops(TEXTURES, size, count, seed, channels, least=size, most=4 * size)


def _letter(letter: str, font: str, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    canvas = size * _FINE
    glyph = _glyph(letter, font, canvas)
    slanted = glyph.rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC, expand=True)
    slanted = slanted.crop(slanted.getbbox())
    scale = random.uniform(0.9, 1.0) * canvas / max(slanted.size)
    width, height = (max(1, round(side * scale)) for side in slanted.size)
    drawn = slanted.resize((width, height), Image.Resampling.BICUBIC)
    image = Image.new("L", (canvas, canvas))
    # Digits stand in the middle, give or take an eighth; a letter stays inside the image.
    left, top = (
        min(max((canvas - side) // 2 + int(random.integers(-canvas // 8, canvas // 8 + 1)), 0), canvas - side)
        for side in (width, height)
    )
    image.paste(drawn, (left, top))
    return np.asarray(image.reduce(_FINE))


@cache
def _glyph(letter: str, font: str, height: int) -> Image.Image:
    """One letter, white on black, cut to its outline."""
    path = _package("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"{font}.ttf"
    _check_bundled(path, "matplotlib")
    face = ImageFont.truetype(str(path), height)
    image = Image.new("L", (3 * height, 3 * height))
    ImageDraw.Draw(image).text((height, height), letter, fill=255, font=face)
    return image.crop(image.getbbox())


def _crops(
    titles: Sequence[str], size: int, count: int, seed: int, channels: int, *, least: int, most: int | None
) -> Images:
    _check(size, count, channels, least=1)
    mode = "L" if channels == 1 else "RGB"
    pictures = [Image.open(_picture(title)).convert(mode) for title in titles]
    limit = min(min(picture.size) for picture in pictures)
    if size > limit:
        raise InputError(f"crops of {size} pixels are asked for, but the smallest picture has {limit}; choose less")
    random = np.random.default_rng(seed)
    source = [row % len(titles) for row in range(count)]
    pixels = np.stack(
        [np.asarray(crop) for crop in _cut([pictures[number] for number in source], size, least, most, random)]
    )
    return Images(
        images=_stacked(pixels, channels),
        labels=None,
        names=tuple(f"{titles[number]}#{row}" for row, number in enumerate(source)),
        groups=torch.tensor(source),
    )


def _cut(
    pictures: Sequence[Image.Image], size: int, least: int, most: int | None, random: np.random.Generator
) -> Iterator[Image.Image]:
    for picture in pictures:
        longest = min(*picture.size, most or max(picture.size))
        side = int(random.integers(min(least, longest), longest + 1))
        left, top = (int(random.integers(0, room - side + 1)) for room in picture.size)
        crop = picture.crop((left, top, left + side, top + side))
        yield crop.resize((size, size), Image.Resampling.BICUBIC)


def _stacked(pixels: NDArray[np.uint8], channels: int) -> torch.Tensor:
    """(N, H, W) or (N, H, W, 3) as (N, channels, H, W)."""
    if pixels.ndim == 4:
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return torch.from_numpy(pixels)[:, None].repeat(1, channels, 1, 1)


def _picture(title: str) -> Path:
    """Where a bundled picture lies. Read as a file: scikit-image's own functions would fetch what is missing."""
    if title in ("china.jpg", "flower.jpg"):
        path = _package("sklearn") / "datasets" / "images" / title
    else:
        path = _package("skimage") / "data" / title
    _check_bundled(path, path.parts[-3])
    return path


def _package(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise DependencyError(
            f"these pictures come with {name}, which is not installed: install it with the extra `report`, "
            "pip install 'gradiometer[report]'"
        )
    return Path(found.origin).parent


def _check_bundled(path: Path, package: str) -> None:
    if not path.is_file():
        raise DependencyError(f"this version of {package} does not bring {path.name}; install another one")


def _check(size: int, count: int, channels: int, *, least: int) -> None:
    if size < least:
        raise InputError(f"size must be at least {least} pixels, got {size}")
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
