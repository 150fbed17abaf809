from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Generator, Tensor

from gradiometer.challenges import CORRUPTIONS, Corruption, corrupt, gaussian_blur, gaussian_noise
from gradiometer.data import Images, to_unit
from gradiometer.errors import InputError

# The constants of CIFAR-10-C, typed again from its paper's released code.
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return to_unit(torch.randint(0, 256, (6, 3, 12, 10), dtype=torch.uint8, generator=seeded(5)))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blur_is_scipys(images: Tensor, level: int, dtype: torch.dtype) -> None:
    found = gaussian_blur(level)(images.to(dtype))
    sigma = BLUR[level - 1]
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    assert found.dtype == dtype
    # Rounded to one of 256 levels: at most half a level away, and the very level wherever that is not a matter of 1e-6.
    np.testing.assert_allclose(found.double().numpy(), expected, atol=0.5 / 255 + 1e-6)
    clear = np.abs(np.abs(expected * 255 % 1) - 0.5) > 1e-3
    np.testing.assert_array_equal(np.rint(found.double().numpy() * 255)[clear], np.rint(expected * 255)[clear])


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_noise_has_the_published_deviation(level: int) -> None:
    grey = torch.full((20, 1, 40, 40), 128 / 255)
    noise = (gaussian_noise(level)(grey, seeded()) - grey).double()
    assert float(noise.mean()) == pytest.approx(0, abs=5 * NOISE[level - 1] / 32_000**0.5)
    # Rounding adds the variance of a uniform distribution one level wide.
    expected = (NOISE[level - 1] ** 2 + (1 / 255) ** 2 / 12) ** 0.5
    assert float(noise.std()) == pytest.approx(expected, rel=5 / (2 * 32_000) ** 0.5)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_every_corruption_is_seeded_in_range_and_in_eight_bits(images: Tensor, name: str) -> None:
    before = images.clone()
    for level in range(1, 6):
        corruption = Corruption(name, level)
        found = corruption(images, seeded(1))
        assert found.shape == images.shape
        assert torch.equal(found, corruption(images, seeded(1)))
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert torch.equal(found, found.mul(255).round().div(255))
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_the_distance_grows_with_the_level(images: Tensor, name: str) -> None:
    distances = [float((Corruption(name, level)(images, seeded()) - images).square().mean()) for level in range(1, 6)]
    assert distances == sorted(distances)
    assert len(set(distances)) == 5
    assert distances[0] > 0


def test_noise_of_another_seed_is_other_noise_and_the_global_generator_serves_too(images: Tensor) -> None:
    noise = gaussian_noise(2)
    assert not torch.equal(noise(images, seeded(1)), noise(images, seeded(2)))
    torch.manual_seed(3)
    one = noise(images)
    torch.manual_seed(3)
    assert torch.equal(one, noise(images))


@given(value=st.integers(0, 255), level=st.integers(1, 5), height=st.integers(1, 9), width=st.integers(1, 9))
def test_blur_leaves_a_flat_image_alone(value: int, level: int, height: int, width: int) -> None:
    flat = to_unit(torch.full((2, 3, height, width), value, dtype=torch.uint8))
    assert torch.equal(gaussian_blur(level)(flat), flat)


def test_corrupted_images_keep_what_belongs_to_them() -> None:
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    originals = Images.of(pixels, [row % 2 for row in range(10)], name="x", classes=("a", "b"))
    noisy = corrupt(originals, gaussian_noise(3), seed=4)
    assert torch.equal(noisy.images, corrupt(originals, gaussian_noise(3), seed=4).images)
    assert not torch.equal(noisy.images, corrupt(originals, gaussian_noise(3), seed=5).images)
    assert torch.equal(noisy.groups, originals.groups)
    assert torch.equal(noisy.labels, originals.labels)
    assert noisy.names == originals.names
    assert torch.equal(originals.images, pixels)
    whole = corrupt(originals, gaussian_blur(3), batch_size=10)
    assert torch.equal(whole.images, corrupt(originals, gaussian_blur(3), batch_size=3).images)


def test_unknown_names_and_levels() -> None:
    with pytest.raises(InputError, match="unknown corruption 'snow'; there are gaussian_noise, gaussian_blur"):
        Corruption("snow", 1)
    for level in (0, 6):
        with pytest.raises(InputError, match=f"1, 2, 3, 4 or 5, got {level}"):
            gaussian_blur(level)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 4, 4), r"\(1, 4, 4\)"),
        (torch.zeros(0, 1, 4, 4), "no images"),
        (torch.full((1, 1, 2, 2), 1.5), "got 1.5 to 1.5"),
        (torch.full((1, 1, 2, 2), -0.5), "got -0.5"),
        (torch.tensor([0.5, float("nan")]).view(1, 1, 1, 2), "got nan"),
    ],
)
def test_bad_images(images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaussian_noise(1)(images)
