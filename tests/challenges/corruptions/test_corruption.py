"""What every corruption holds to, by name."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from gradiometer.challenges import (
    CORRUPTIONS,
    PURVIEW_EIGHT,
    Corruption,
    corrupt,
    corruption,
    gaussian_blur,
    gaussian_noise,
)
from gradiometer.data import Images, to_unit
from gradiometer.errors import InputError

EVERY = pytest.mark.parametrize("name", list(CORRUPTIONS))

# Typed again from the released code of CIFAR-10-C (make_cifar_c.py). Zoom blur: how many factors NumPy's arange gives.
PUBLISHED = {
    "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
    "shot_noise": [500, 250, 100, 75, 50],
    "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
    "speckle_noise": [0.06, 0.1, 0.12, 0.16, 0.2],
    "gaussian_blur": [0.4, 0.6, 0.7, 0.8, 1],
    "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "glass_blur": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "motion_blur": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "zoom_blur": [(7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)],
    "snow": [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ],
    "frost": [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "spatter": [
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ],
    "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
    "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
    "saturate": [(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    "elastic_transform": [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
    "jpeg_compression": [80, 65, 58, 50, 40],
}
CURE_TSR = [
    *("decolorization", "lens_blur", "codec_error", "darkening", "dirty_lens", "exposure"),
    *("street_gaussian_blur", "noise", "rain", "shadow", "street_snow", "haze"),
]
RANDOM = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur", "glass_blur", "snow", "frost"),
    *("fog", "spatter", "elastic_transform", "codec_error", "dirty_lens", "noise", "rain", "shadow", "street_snow"),
}


def versions(images: Tensor, name: str) -> list[Tensor]:
    return [Corruption(name, level)(images) for level in range(1, 6)]


def distance(version: Tensor, images: Tensor) -> float:
    """The mean Euclidean distance of an image to its original, for each pixel."""
    return float((version - images).square().mean(dim=(1, 2, 3)).sqrt().mean())


def test_the_constants_of_cifar_10_c_are_the_published_ones() -> None:
    found = {
        name: [levels if len(levels) > 1 else levels[0] for levels in recipe.levels]
        for name, recipe in CORRUPTIONS.items()
        if recipe.source == "CIFAR-10-C"
    }
    assert found == PUBLISHED


def test_the_twelve_of_cure_tsr_are_in_the_order_of_their_numbers() -> None:
    assert [name for name, recipe in CORRUPTIONS.items() if recipe.source == "CURE-TSR"] == CURE_TSR


def test_the_eight_rows_of_the_lecture_have_both_readings() -> None:
    assert len(PURVIEW_EIGHT) == 8
    for readings in PURVIEW_EIGHT.values():
        assert {source: CORRUPTIONS[name].source for source, name in readings.items()} == {
            "CIFAR-10-C": "CIFAR-10-C",
            "CURE-TSR": "CURE-TSR",
        }
    assert len({name for readings in PURVIEW_EIGHT.values() for name in readings.values()}) == 16


@EVERY
def test_the_images_move_away_level_by_level_unless_the_recipe_says_why_not(photos: Tensor, name: str) -> None:
    distances = [distance(version, photos) for version in versions(photos, name)]
    grows = all(one < more for one, more in itertools.pairwise(distances))
    assert distances[0] > 0
    assert grows == (not CORRUPTIONS[name].uneven), distances


def test_the_exceptions_are_six_of_cifar_10_c() -> None:
    assert {name for name, recipe in CORRUPTIONS.items() if recipe.uneven} == {
        *("motion_blur", "glass_blur", "frost", "spatter", "saturate", "elastic_transform")
    }


@EVERY
def test_range_type_and_eight_bits(images: Tensor, name: str) -> None:
    before = images.clone()
    for dtype in (torch.float32, torch.float64):
        for version in versions(images.to(dtype), name):
            assert version.shape == images.shape
            assert version.dtype == dtype
            assert 0 <= float(version.min()) <= float(version.max()) <= 1
            assert torch.equal(version, version.mul(255).round().div(255))
    assert torch.equal(images, before)


@EVERY
def test_an_image_is_corrupted_alike_in_any_batch_and_order(photos: Tensor, name: str) -> None:
    rows = [5, 0, 17]
    change = Corruption(name, 4)
    whole, some = change(photos), change(photos[rows])
    torch.testing.assert_close(some, whole[rows], atol=1.01 / 255, rtol=0)  # a sum in another order may round otherwise
    assert (some == whole[rows]).float().mean() > 0.999
    again = change(photos[rows])
    assert torch.equal(some, again)


@EVERY
def test_the_seed_matters_where_something_is_random(images: Tensor, name: str) -> None:
    change = Corruption(name, 5)
    assert torch.equal(change(images, seed=1), change(images, seed=2)) == (name not in RANDOM)


@EVERY
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 9), (8, 8), (40, 17)])
def test_any_size(name: str, height: int, width: int) -> None:
    image = torch.rand(2, 3, height, width)
    for level in (1, 5):
        assert Corruption(name, level)(image).shape == image.shape


@EVERY
def test_grey_images_are_corrupted_or_refused(images: Tensor, name: str) -> None:
    grey = images[:, :1]
    if CORRUPTIONS[name].colour:
        with pytest.raises(InputError, match=f"{name} changes colours, but the images are grey"):
            Corruption(name, 1)(grey)
    else:
        assert Corruption(name, 5)(grey).shape == grey.shape


def test_the_random_numbers_of_two_corruptions_differ() -> None:
    flat = torch.full((1, 1, 16, 16), 0.5)
    one, other = (Corruption(name, 3)(flat) - flat for name in ("gaussian_noise", "noise"))
    assert float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.5


def test_corrupted_images_keep_what_belongs_to_them() -> None:
    pixels = torch.randint(0, 256, (10, 1, 8, 8), dtype=torch.uint8)
    originals = Images.of(pixels, [row % 2 for row in range(10)], name="x", classes=("a", "b"))
    noisy = corrupt(originals, gaussian_noise(3), seed=4)
    assert torch.equal(noisy.images, corrupt(originals, gaussian_noise(3), seed=4, batch_size=3).images)
    assert not torch.equal(noisy.images, corrupt(originals, gaussian_noise(3), seed=5).images)
    assert torch.equal(noisy.groups, originals.groups)
    assert torch.equal(noisy.labels, originals.labels)
    assert noisy.names == originals.names
    assert torch.equal(originals.images, pixels)
    some = corrupt(originals.select([7, 2]), gaussian_noise(3), seed=4)
    assert torch.equal(some.images, noisy.images[[7, 2]])


def test_unknown_names_and_levels() -> None:
    with pytest.raises(InputError, match="unknown corruption 'frog'; did you mean fog"):
        corruption("frog", 1)
    with pytest.raises(InputError, match="unknown corruption 'xyz'; there are gaussian_noise, shot_noise"):
        corruption("xyz", 1)
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
        (torch.zeros(1, 2, 4, 4), "1 or 3 channels, got 2"),
    ],
)
def test_bad_images(images: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gaussian_noise(1)(images)


def test_real_images_move_away_too(data_root: object) -> None:
    from gradiometer.data import load

    known = to_unit(load("cifar10", split="test", root=str(data_root), limit=200).images)
    for name, recipe in CORRUPTIONS.items():
        distances = [distance(version, known) for version in versions(known, name)]
        assert recipe.uneven or distances == sorted(set(distances)), (name, distances)
