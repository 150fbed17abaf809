from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradiometer.challenges import Corruption
from gradiometer.challenges.corruptions.clouds import clouds
from gradiometer.challenges.corruptions.draws import Draws

LEVELS = pytest.mark.parametrize("level", [1, 2, 3, 4, 5])


def test_clouds_fill_their_range_and_get_rougher_with_a_smaller_decay(photos: Tensor) -> None:
    roughness = []
    for decay in (3.0, 2.0, 1.5, 1.1):
        found = clouds(Draws(photos, "test", 0), 32, 32, decay)
        assert found.shape == (len(photos), 1, 32, 32)
        assert torch.equal(found.amin(dim=(1, 2, 3)), torch.zeros(len(photos)))
        torch.testing.assert_close(found.amax(dim=(1, 2, 3)), torch.ones(len(photos)))
        roughness.append(float(found.diff(dim=3).abs().mean()))
    assert roughness == sorted(roughness)


def test_clouds_of_a_torus_have_no_seam(photos: Tensor) -> None:
    found = clouds(Draws(photos, "test", 0), 32, 32, 2.0)
    inside = (found[..., 1:] - found[..., :-1]).abs().mean()
    seam = (found[..., 0] - found[..., -1]).abs().mean()
    assert float(seam) == pytest.approx(float(inside), rel=0.3)


@LEVELS
def test_fog_keeps_black_black_and_dims_white_by_its_strength(level: int) -> None:
    strength = (0.2, 0.5, 0.75, 1, 1.5)[level - 1]
    fog = Corruption("fog", level)
    assert not fog(torch.zeros(1, 3, 32, 32)).any()  # the range of the image is kept, and this one has none
    white = fog(torch.ones(1, 3, 32, 32))
    assert float(white.max()) == 1  # where the clouds are densest
    assert float(white.min()) == pytest.approx(1 / (1 + strength), abs=0.5 / 255 + 1e-6)


@LEVELS
def test_frost_of_a_black_image_is_the_ice_alone(level: int) -> None:
    share = (0.2, 0.3, 0.4, 0.4, 0.45)[level - 1]
    ice = Corruption("frost", level)(torch.zeros(4, 3, 32, 32))
    assert 0 < float(ice.min()) < float(ice.max()) <= share
    assert float(ice[:, 2].mean()) > float(ice[:, 0].mean())  # bluish


@LEVELS
def test_snow_only_whitens(photos: Tensor, level: int) -> None:
    snowy = Corruption("snow", level)(photos)
    assert float((photos - snowy).max()) <= 0.5 / 255 + 1e-6
    assert float((snowy - photos).mean()) > 0.02


@pytest.mark.parametrize("level", [1, 2, 3])
def test_water_only_brightens_and_leaves_most_of_the_image(photos: Tensor, level: int) -> None:
    wet = Corruption("spatter", level)(photos)
    assert float((photos - wet).max()) <= 0.5 / 255 + 1e-6
    assert 0.005 < float((wet != photos).any(dim=1).float().mean()) < 0.6


@pytest.mark.parametrize("level", [4, 5])
def test_mud_is_brown(level: int) -> None:
    white = torch.ones(8, 3, 32, 32)
    white[:, :, 0, 0] = torch.arange(8).view(8, 1) / 255  # eight images, not one eight times
    muddy = Corruption("spatter", level)(white)
    covered = muddy.amax(dim=1) < 0.4
    assert 0.001 < float(covered.float().mean()) < 0.5
    red, green, blue = (channel[covered].mean() for channel in muddy.unbind(dim=1))
    assert red > green > blue
