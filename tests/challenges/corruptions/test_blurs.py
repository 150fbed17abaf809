from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from gradiometer.challenges import Corruption, gaussian_blur
from gradiometer.challenges.corruptions import filters
from gradiometer.data import to_unit

# The constants of CIFAR-10-C, typed again.
DEVIATIONS = (0.4, 0.6, 0.7, 0.8, 1.0)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_blur_is_scipys(images: Tensor, level: int, dtype: torch.dtype) -> None:
    found = gaussian_blur(level)(images.to(dtype))
    sigma = DEVIATIONS[level - 1]
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    assert found.dtype == dtype
    # Rounded to one of 256 levels: at most half a level away, and the very level wherever that is not a matter of 1e-6.
    np.testing.assert_allclose(found.double().numpy(), expected, atol=0.5 / 255 + 1e-6)
    clear = np.abs(np.abs(expected * 255 % 1) - 0.5) > 1e-3
    np.testing.assert_array_equal(np.rint(found.double().numpy() * 255)[clear], np.rint(expected * 255)[clear])


@given(value=st.integers(0, 255), level=st.integers(1, 5), height=st.integers(1, 9), width=st.integers(1, 9))
@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "lens_blur"]
)
def test_blur_leaves_a_flat_image_alone(name: str, value: int, level: int, height: int, width: int) -> None:
    flat = to_unit(torch.full((2, 3, height, width), value, dtype=torch.uint8))
    assert torch.equal(Corruption(name, level)(flat), flat)


def test_the_strongest_defocus_is_the_mean_of_nine_pixels(images: Tensor) -> None:
    # A radius of 1.5 reaches the corners of three by three pixels, and a deviation of 0.1 smooths nothing.
    expected = ndimage.uniform_filter(images.double().numpy(), (0, 0, 3, 3), mode="nearest")
    np.testing.assert_allclose(Corruption("defocus_blur", 5)(images).numpy(), expected, atol=0.51 / 255)


def test_the_weakest_defocus_is_a_gaussian_of_three_pixels(images: Tensor) -> None:
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, 0, 0.4, 0.4), mode="nearest", radius=(0, 0, 1, 1))
    np.testing.assert_allclose(Corruption("defocus_blur", 1)(images).numpy(), expected, atol=0.51 / 255)


def test_a_level_streak_is_half_a_gaussian(images: Tensor) -> None:
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    weights /= weights.sum()
    both_sides = np.concatenate([np.zeros(12), weights])
    expected = ndimage.correlate1d(images.double().numpy(), both_sides, axis=3, mode="nearest")
    kernels = filters.motion_kernels(torch.zeros(len(images)), radius=6, deviation=2)
    np.testing.assert_allclose(filters.correlate(images.double(), kernels).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("angle", [-45, 0, 30, 45, 90, -135])
def test_a_streak_runs_in_its_direction(angle: float) -> None:
    (kernel,) = filters.motion_kernels(torch.tensor([float(angle)]), radius=12, deviation=4)
    assert float(kernel.sum()) == pytest.approx(1)
    offsets = torch.arange(len(kernel)) - len(kernel) // 2
    down, right = float((kernel.sum(1) * offsets).sum()), float((kernel.sum(0) * offsets).sum())
    assert np.degrees(np.arctan2(down, right)) == pytest.approx(angle, abs=5)


@given(factor=st.floats(1, 1.5), height=st.integers(2, 12), width=st.integers(2, 12))
def test_zoom_is_scipys_affine_map(factor: float, height: int, width: int) -> None:
    image = torch.rand(1, 2, height, width, dtype=torch.float64)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    for channel, found in zip(image[0], filters.zoom(image, factor)[0], strict=True):
        expected = ndimage.affine_transform(
            channel.numpy(), np.eye(2) / factor, middle - middle / factor, order=1, mode="nearest"
        )
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_glass_only_moves_pixels_and_leaves_two_edges(images: Tensor) -> None:
    found = Corruption("glass_blur", 1)(images)  # a deviation of 0.05 pixels blurs nothing
    assert not torch.equal(found, images)
    for one, other in zip(images, found, strict=True):
        colours = [sorted(map(tuple, image.flatten(1).T.tolist())) for image in (one, other)]
        assert colours[0] == colours[1]
    # An exchange goes up and left from the second row and column on: the outermost ones never take part.
    assert torch.equal(found[:, :, 0], images[:, :, 0])
    assert torch.equal(found[:, :, :, 0], images[:, :, :, 0])
    assert (found[:, :, 1:, 1:] != images[:, :, 1:, 1:]).float().mean() > 0.5


@pytest.mark.parametrize("radius", [0.75, 1.25, 1.75, 2.25, 3.0])
def test_a_hexagon_has_its_area_and_symmetry(radius: float) -> None:
    kernel = filters.hexagon(radius, fineness=41)
    assert float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip(0))
    torch.testing.assert_close(kernel, kernel.flip(1))
    # One pixel that is covered as a whole weighs 1 / area; the area is 3/2 * sqrt(3) * radius ** 2.
    if radius > 1:
        assert float(1 / kernel.max()) == pytest.approx(1.5 * 3**0.5 * radius**2, rel=0.03)
