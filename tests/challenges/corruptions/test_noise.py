from __future__ import annotations

import itertools

import pytest
import torch

from gradiometer.challenges import Corruption, gaussian_noise

COUNT = 200 * 200
GREY = torch.full((1, 1, 200, 200), 128 / 255)

# Rounding to 256 levels adds the variance of a uniform distribution one level wide.
ROUNDING = (1 / 255) ** 2 / 12


@pytest.mark.parametrize(("level", "deviation"), [*enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1)])
def test_gaussian_noise_has_the_published_deviation(level: int, deviation: float) -> None:
    noise = (gaussian_noise(level)(GREY) - GREY).double()
    assert float(noise.mean()) == pytest.approx(0, abs=5 * deviation / COUNT**0.5)
    assert float(noise.std()) == pytest.approx((deviation**2 + ROUNDING) ** 0.5, rel=5 / (2 * COUNT) ** 0.5)


@pytest.mark.parametrize(("level", "photons"), [*enumerate((500, 250, 100, 75, 50), 1)])
def test_shot_noise_counts_photons(level: int, photons: int) -> None:
    found = Corruption("shot_noise", level)(GREY).double()
    deviation = (128 / 255 / photons) ** 0.5
    assert float(found.mean()) == pytest.approx(128 / 255, abs=5 * deviation / COUNT**0.5 + 1e-3)
    assert float(found.std()) == pytest.approx((deviation**2 + ROUNDING) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("level", "share"), [*enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)])
def test_impulse_noise_is_salt_and_pepper_in_equal_shares(level: int, share: float) -> None:
    found = Corruption("impulse_noise", level)(GREY)
    for value in (0.0, 1.0):
        assert float((found == value).double().mean()) == pytest.approx(share / 2, abs=5 * (share / 2 / COUNT) ** 0.5)
    assert torch.equal(found[(found > 0) & (found < 1)].unique(), torch.tensor([128 / 255]))


def test_impulses_of_a_level_are_among_those_of_the_next() -> None:
    hit = [Corruption("impulse_noise", level)(GREY) != GREY for level in range(1, 6)]
    for one, more in itertools.pairwise(hit):
        assert bool((more | ~one).all())


@pytest.mark.parametrize(("level", "deviation"), [*enumerate((0.06, 0.1, 0.12, 0.16, 0.2), 1)])
def test_speckle_noise_grows_with_the_brightness(level: int, deviation: float) -> None:
    for brightness in (51 / 255, 102 / 255):
        flat = torch.full_like(GREY, brightness)
        noise = (Corruption("speckle_noise", level)(flat) - flat).double()
        expected = ((deviation * brightness) ** 2 + ROUNDING) ** 0.5
        assert float(noise.std()) == pytest.approx(expected, rel=0.03)
    assert not Corruption("speckle_noise", level)(torch.zeros_like(GREY)).any()
