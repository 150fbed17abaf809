from __future__ import annotations

import numpy as np
import pytest
from skimage import color
from torch import Tensor

from gradiometer.challenges import Corruption


def rows(images: Tensor) -> np.ndarray:
    """Channels last, in float64."""
    return images.double().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("level", "shift"), [*enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1)])
def test_brightness_is_scikit_images(images: Tensor, level: int, shift: float) -> None:
    hsv = color.rgb2hsv(rows(images))
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    np.testing.assert_allclose(rows(Corruption("brightness", level)(images)), color.hsv2rgb(hsv), atol=0.51 / 255)


@pytest.mark.parametrize(("level", "constants"), [*enumerate(((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), 1)])
def test_saturate_is_scikit_images(images: Tensor, level: int, constants: tuple[float, float]) -> None:
    hsv = color.rgb2hsv(rows(images))
    hsv[..., 1] = np.clip(hsv[..., 1] * constants[0] + constants[1], 0, 1)
    np.testing.assert_allclose(rows(Corruption("saturate", level)(images)), color.hsv2rgb(hsv), atol=0.51 / 255)


@pytest.mark.parametrize(("level", "share"), [*enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1)])
def test_contrast_shrinks_each_channel_towards_its_mean(images: Tensor, level: int, share: float) -> None:
    pixels = rows(images)
    means = pixels.mean(axis=(1, 2), keepdims=True)
    expected = np.clip((pixels - means) * share + means, 0, 1)
    np.testing.assert_allclose(rows(Corruption("contrast", level)(images)), expected, atol=0.51 / 255)
