from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gradiometer.data import Images, reencode
from gradiometer.data.jpeg import Subsampling, through_jpeg
from gradiometer.errors import InputError


def colours(count: int = 3) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 16, 24), dtype=torch.uint8, generator=generator)
    return Images.of(pixels, list(range(count)), name="x", classes=[str(number) for number in range(count)])


@pytest.mark.parametrize(("subsampling", "number"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_it_is_pillows_with_that_subsampling(subsampling: Subsampling, number: int) -> None:
    images = colours()
    again = reencode(images, 60, subsampling)
    for before, after in zip(images.images, again.images, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(before.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=60, subsampling=number)
        np.testing.assert_array_equal(after.permute(1, 2, 0).numpy(), np.asarray(Image.open(buffer)))


def test_grey_images_stay_grey() -> None:
    images = Images.of(colours().images[:, :1].contiguous())
    again = reencode(images, 90)
    assert again.images.shape == images.images.shape
    buffer = io.BytesIO()
    Image.fromarray(images.images[0, 0].numpy()).save(buffer, "JPEG", quality=90)
    np.testing.assert_array_equal(again.images[0, 0].numpy(), np.asarray(Image.open(buffer)))


def test_what_belongs_to_the_images_stays() -> None:
    images = colours()
    again = reencode(images)
    assert (again.names, again.classes) == (images.names, images.classes)
    assert torch.equal(again.groups, images.groups)
    assert again.labels is not None
    assert again.labels.tolist() == [0, 1, 2]


def test_more_quality_is_nearer() -> None:
    images = colours(8)
    distances = [
        float((reencode(images, quality, "4:4:4").images.double() - images.images.double()).abs().mean())
        for quality in (10, 30, 60, 95)
    ]
    assert distances == sorted(distances, reverse=True)


def test_both_sides_of_a_comparison_go_the_same_way() -> None:
    images = colours(6)
    assert torch.equal(reencode(images.select([4, 1])).images, reencode(images).images[[4, 1]])


def test_bad_arguments() -> None:
    images = colours()
    for quality in (0, 96):
        with pytest.raises(InputError, match=f"1 to 95, got {quality}"):
            reencode(images, quality)
    with pytest.raises(InputError, match="unknown subsampling '4:1:1'; there are 4:4:4, 4:2:2, 4:2:0"):
        reencode(images, 75, "4:1:1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"uint8 images .* got torch.float32"):
        through_jpeg(torch.rand(1, 3, 4, 4), 75)
    with pytest.raises(InputError, match=r"\(1, 2, 4, 4\)"):
        through_jpeg(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), 75)
