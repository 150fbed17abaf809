from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradiometer.challenges import Corruption
from gradiometer.data import to_bytes

LEVELS = pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
HALF = 0.51 / 255


def clipped_deviation(deviation: float) -> float:
    """Standard deviation of normal noise around the middle grey after clipping to [0, 1]."""
    values = np.linspace(-6, 6, 20001) * deviation
    density = np.exp(-0.5 * (values / deviation) ** 2)
    clipped = np.clip(values, -0.5, 0.5)
    return float(np.sqrt((density * clipped**2).sum() / density.sum()))


def test_the_last_level_of_decolorization_is_pillows_grey(photos: Tensor) -> None:
    found = to_bytes(Corruption("decolorization", 5)(photos)).permute(0, 2, 3, 1).numpy()
    for picture, row in zip(to_bytes(photos).permute(0, 2, 3, 1).numpy(), found, strict=True):
        expected = np.asarray(Image.fromarray(picture).convert("L")).astype(int)
        assert np.abs(row.astype(int) - expected[..., None]).max() <= 1


@LEVELS
def test_exposure_doubles_the_light_with_every_stop(photos: Tensor, level: int) -> None:
    from skimage.color import rgb2xyz, xyz2rgb

    # scikit-image has the curve of sRGB inside its way to XYZ, which is linear in light.
    pixels = photos[:4].double().permute(0, 2, 3, 1).numpy()
    to_light = rgb2xyz(np.eye(3)[None])[0]
    light = np.clip(rgb2xyz(pixels) @ np.linalg.inv(to_light) * 2 ** (0.5 * level), 0, 1)
    expected = xyz2rgb(light @ to_light)
    found = Corruption("exposure", level)(photos[:4]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, atol=HALF + 1e-4)


@LEVELS
def test_darkening_is_a_factor(photos: Tensor, level: int) -> None:
    expected = photos * (0.48 - 0.08 * level)
    torch.testing.assert_close(Corruption("darkening", level)(photos), expected, atol=HALF, rtol=0)


@LEVELS
def test_shadow_leaves_some_columns_and_darkens_the_others(level: int) -> None:
    white = torch.ones(1, 3, 32, 32)
    columns = Corruption("shadow", level)(white)[0, 0, 0]
    dark = columns < 1
    torch.testing.assert_close(columns[dark], torch.full_like(columns[dark], 1 - 0.15 * level), atol=HALF, rtol=0)
    assert int(dark.sum()) == 16
    assert int((dark[1:] != dark[:-1]).sum()) in (3, 4)  # two bands, one of which may go around the edge


@LEVELS
def test_noise_has_its_deviation(level: int) -> None:
    grey = torch.full((1, 1, 200, 200), 128 / 255)
    noise = (Corruption("noise", level)(grey) - grey).double()
    clipped = clipped_deviation(0.05 * level)
    assert float(noise.std()) == pytest.approx(clipped, rel=0.02)


@LEVELS
def test_haze_draws_every_pixel_towards_a_light_grey(photos: Tensor, level: int) -> None:
    hazy = Corruption("haze", level)
    assert float(hazy(torch.zeros(1, 3, 32, 32)).min()) > 0.05 * level
    assert float(hazy(torch.ones(1, 3, 32, 32)).max()) < 1
    spread = [images.std(dim=(2, 3)).mean() for images in (photos, hazy(photos))]
    assert spread[1] < spread[0]


@pytest.mark.parametrize("name", ["rain", "street_snow"])
def test_what_falls_at_a_level_falls_at_the_next(photos: Tensor, name: str) -> None:
    dark = 0.1 * photos
    bright = [Corruption(name, level)(dark) > 0.3 for level in range(1, 6)]
    for one, more in itertools.pairwise(bright):
        assert float((more | ~one).float().mean()) > 0.999
        assert int(more.sum()) > int(one.sum())


def test_dirt_covers_the_same_places_at_every_level() -> None:
    white = torch.ones(1, 1, 32, 32)
    lost = [1 - Corruption("dirty_lens", level)(white).double() for level in (1, 5)]
    assert float(torch.corrcoef(torch.stack([part.flatten() for part in lost]))[0, 1]) > 0.99
    assert float(lost[1].mean() / lost[0].mean()) == pytest.approx(0.65 / 0.2, rel=0.05)


def test_a_codec_error_moves_blocks() -> None:
    ramp = torch.arange(32).expand(32, 32)[None, None] / 31
    found = Corruption("codec_error", 3)(ramp)[0, 0]
    inside = found.diff(dim=1).abs()
    # Between two blocks the ramp jumps, inside a block it goes on.
    jumps = inside[:, [7, 15, 23]].mean()
    others = inside[:, [3, 11, 19, 27]].mean()
    assert jumps > 1.5 * others


def test_grey_images_are_darkened_and_rained_on_as_well(photos: Tensor) -> None:
    for name in ("rain", "dirty_lens", "haze", "street_snow", "codec_error", "shadow", "exposure"):
        grey = photos[:2, :1]
        assert Corruption(name, 3)(grey).shape == grey.shape
        assert not torch.equal(Corruption(name, 3)(grey), grey)
