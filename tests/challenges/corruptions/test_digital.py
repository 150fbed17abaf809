from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradiometer.challenges import Corruption
from gradiometer.data import to_bytes


def pictures(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(row) for row in to_bytes(images).permute(0, 2, 3, 1).numpy()]


@pytest.mark.parametrize(("level", "quality"), [*enumerate((80, 65, 58, 50, 40), 1)])
def test_jpeg_is_pillows(photos: Tensor, level: int, quality: int) -> None:
    found = to_bytes(Corruption("jpeg_compression", level)(photos[:4])).permute(0, 2, 3, 1).numpy()
    for picture, row in zip(pictures(photos[:4]), found, strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        np.testing.assert_array_equal(row, np.asarray(Image.open(buffer)))


@pytest.mark.parametrize(("level", "side"), [*enumerate((30, 28, 27, 24, 20), 1)])
def test_pixelate_is_pillows_box(photos: Tensor, level: int, side: int) -> None:
    found = to_bytes(Corruption("pixelate", level)(photos[:4])).permute(0, 2, 3, 1).numpy()
    for picture, row in zip(pictures(photos[:4]), found, strict=True):
        small = picture.resize((side, side), Image.Resampling.BOX)
        np.testing.assert_array_equal(row, np.asarray(small.resize((32, 32), Image.Resampling.BOX)))


def test_the_first_elastic_level_is_an_affine_map() -> None:
    ramp = torch.arange(32, dtype=torch.float64).expand(1, 1, 32, 32) / 31
    found = Corruption("elastic_transform", 1)(ramp)[0, 0, 8:24, 8:24]
    rows, columns = np.mgrid[0:16, 0:16]
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(256)], axis=1)
    _, residual, _, _ = np.linalg.lstsq(design, found.numpy().ravel(), rcond=None)
    assert (residual[0] / 256) ** 0.5 < 0.3 / 255  # nothing but the rounding is left
    assert not torch.equal(found, ramp[0, 0, 8:24, 8:24])


@pytest.mark.parametrize("level", [3, 4, 5])  # the displacement of level 2 is smoothed to a hundredth of a pixel
def test_the_later_elastic_levels_are_not(level: int) -> None:
    ramp = torch.arange(32, dtype=torch.float64).expand(1, 1, 32, 32) / 31
    found = Corruption("elastic_transform", level)(ramp)[0, 0, 8:24, 8:24]
    rows, columns = np.mgrid[0:16, 0:16]
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(256)], axis=1)
    _, residual, _, _ = np.linalg.lstsq(design, found.numpy().ravel(), rcond=None)
    assert (residual[0] / 256) ** 0.5 > 0.3 / 255


@pytest.mark.parametrize("level", [1, 5])
def test_an_elastic_image_holds_the_colours_of_the_original(photos: Tensor, level: int) -> None:
    found = Corruption("elastic_transform", level)(photos)
    assert bool((found.amax(dim=(2, 3)) <= photos.amax(dim=(2, 3)) + 0.51 / 255).all())
    assert bool((found.amin(dim=(2, 3)) >= photos.amin(dim=(2, 3)) - 0.51 / 255).all())
