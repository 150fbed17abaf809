from __future__ import annotations

import colorsys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradiometer.challenges.colour_space import from_hsv, grey, tint, to_hsv

colours = st.tuples(*[st.integers(0, 255)] * 3)


@given(colour=colours)
def test_hue_saturation_and_value_are_colorsys(colour: tuple[int, int, int]) -> None:
    pixel = torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1) / 255
    found = to_hsv(pixel)
    np.testing.assert_allclose(found.flatten().numpy(), colorsys.rgb_to_hsv(*(c / 255 for c in colour)), atol=1e-12)
    torch.testing.assert_close(from_hsv(found), pixel)


@given(hue=st.floats(0, 0.999), saturation=st.floats(0, 1), value=st.floats(0, 1))
def test_back_from_any_hue(hue: float, saturation: float, value: float) -> None:
    found = from_hsv(torch.tensor([hue, saturation, value], dtype=torch.float64).view(1, 3, 1, 1))
    np.testing.assert_allclose(found.flatten().numpy(), colorsys.hsv_to_rgb(hue, saturation, value), atol=1e-9)


def test_grey_has_the_weights_of_the_standard() -> None:
    primaries = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    np.testing.assert_allclose(grey(primaries).flatten().numpy(), [0.299, 0.587, 0.114])
    single = torch.rand(2, 1, 3, 3)
    assert grey(single) is single


def test_a_tint_fits_the_images() -> None:
    assert tint((0.1, 0.2, 0.3), torch.zeros(5, 3, 2, 2)).shape == (1, 3, 1, 1)
    brightness = tint((0.1, 0.2, 0.3), torch.zeros(5, 1, 2, 2, dtype=torch.float64))
    np.testing.assert_allclose(brightness.flatten().numpy(), [0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.3])
