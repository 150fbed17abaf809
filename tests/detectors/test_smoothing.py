"""The median filter against the one of SciPy, on images of any size and kind of number."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from gradiometer.detectors.smoothing import smoothed


@pytest.mark.parametrize("shape", [(5, 3, 9, 7), (2, 1, 1, 4), (3, 3, 2, 2), (1, 2, 32, 32), (0, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_pixel_is_the_median_of_the_nine_around_it(shape, dtype):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    images[..., ::2] = images[..., ::2].round()  # so that some of the nine are equal
    found = smoothed(images)
    assert found.dtype == dtype
    expected = ndimage.median_filter(images.double().numpy(), size=(1, 1, 3, 3), mode="nearest")
    assert torch.equal(found.double(), torch.from_numpy(expected))


def test_what_is_no_image_stays_and_images_alone_are_nothing_to_refuse():
    image, tokens, vector = torch.rand(2, 3, 5, 5), torch.ones(2, 4, dtype=torch.long), torch.rand(2, 6)
    found = smoothed({"pixels": image, "tokens": tokens, "vector": vector})
    assert torch.equal(found["pixels"], smoothed(image))
    assert found["tokens"] is tokens
    assert found["vector"] is vector
    assert isinstance(smoothed((vector, image)), tuple)
    for nothing in (tokens, vector, (tokens, vector), torch.ones(2, 3, 5, 5, dtype=torch.uint8)):
        assert smoothed(nothing) is None
