"""Draw the contact sheet of the how-to on challenges: every corruption at every level, on crops of two photographs.

python docs/draw_corruptions.py

The photographs come with scikit-learn and scikit-image (extra `report`); nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from gradiometer.challenges import CORRUPTIONS, Recipe, corruption, photographs
from gradiometer.data import Images, to_bytes, to_unit

SIZE = 32  # pixels of a crop, as in the data sets for which the constants were made
SCALE = 2  # how much larger it is drawn
GAP = 4
LABEL = 150
COLOURS = 256
CELL = SIZE * SCALE + GAP
LEVELS = (1, 2, 3, 4, 5)
SOURCES = {"CIFAR-10-C": 0, "CURE-TSR": 5}  # collection, and the crop that it is shown on


def main() -> None:
    """Write `docs/images/corruptions.png`."""
    pictures = photographs(SIZE, 7, seed=6)
    columns = [[recipe for recipe in CORRUPTIONS.values() if recipe.source == source] for source in SOURCES]
    width = LABEL + CELL * (len(LEVELS) + 1) + 3 * GAP
    sheet = Image.new("RGB", (width * len(columns), CELL * (max(map(len, columns)) + 1)), "white")
    for column, (source, row) in enumerate(SOURCES.items()):
        _heading(sheet, column * width, source)
        for place, recipe in enumerate(columns[column], 1):
            _row(sheet, column * width, place * CELL, recipe, pictures.select([row]))
    path = Path(__file__).with_name("images") / "corruptions.png"
    path.parent.mkdir(exist_ok=True)
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)  # a quarter of the size
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def _heading(sheet: Image.Image, left: int, source: str) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left + GAP, CELL - 3 * GAP), source, fill="black", font=_font(bold=True), anchor="ls")
    for column, title in enumerate(("original", *map(str, LEVELS))):
        middle = left + LABEL + column * CELL + SIZE * SCALE // 2
        draw.text((middle, CELL - 3 * GAP), title, fill="black", font=_font(), anchor="ms")


def _row(sheet: Image.Image, left: int, top: int, recipe: Recipe, picture: Images) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left + GAP, top + SIZE * SCALE // 2), recipe.name, fill="black", font=_font(), anchor="lm")
    clean = to_unit(picture.images)
    versions = [clean, *(corruption(recipe.name, level)(clean) for level in LEVELS)]
    for column, version in enumerate(versions):
        sheet.paste(_image(version), (left + LABEL + column * CELL, top))


def _image(images: torch.Tensor) -> Image.Image:
    pixels = to_bytes(images)[0].permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((SIZE * SCALE,) * 2, Image.Resampling.NEAREST)


def _font(*, bold: bool = False) -> ImageFont.FreeTypeFont:
    found = font_manager.findfont(
        font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    )
    return ImageFont.truetype(found, 13)


if __name__ == "__main__":
    main()
