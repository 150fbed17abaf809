from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradiometer.data import Images, to_bytes, to_unit
from gradiometer.errors import InputError


def some(count: int = 6) -> Images:
    pixels = torch.arange(count * 12, dtype=torch.uint8).view(count, 1, 3, 4)
    return Images.of(pixels, [row % 3 for row in range(count)], name="some", classes=("a", "b", "c"))


def test_pixels_of_floating_point_stay_as_they_are() -> None:
    pixels = torch.full((2, 1, 2, 2), 255.0)
    assert to_unit(pixels).eq(1).all()
    assert pixels.eq(255).all()


def test_every_level_survives_the_way_to_unit_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(to_unit(levels)), levels)
    np.testing.assert_array_equal(to_unit(levels).numpy(), np.arange(256, dtype=np.float32) / np.float32(255))


@given(st.floats(-2, 3, width=32))
def test_to_bytes_is_the_nearest_level(value: float) -> None:
    level = int(to_bytes(torch.tensor([value])))
    assert abs(level - 255 * min(max(value, 0), 1)) <= 0.5 + 1e-4


def test_batches_are_the_images_in_order() -> None:
    images = some(7)
    batches = list(images.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert all(batch.dtype == torch.float32 for batch in batches)
    np.testing.assert_allclose(torch.cat(batches).numpy(), images.images.numpy() / 255, rtol=1e-6)


@given(st.lists(st.integers(-6, 5), min_size=1, max_size=12))
def test_select_takes_everything_along(index: list[int]) -> None:
    images = some()
    part = images.select(index)
    assert part.labels is not None
    for row, number in enumerate(index):
        number %= 6
        assert torch.equal(part.images[row], images.images[number])
        assert part.labels[row] == number % 3
        assert part.names[row] == f"some#{number}"
        assert part.groups[row] == number


def test_select_by_mask() -> None:
    images = some()
    assert images.select(np.array([True, False, False, True, False, False])).names == ("some#0", "some#3")
    with pytest.raises(InputError, match="6 booleans"):
        images.select(torch.tensor([True]))


@pytest.mark.parametrize("index", [[], [6], [-7]])
def test_select_refuses_what_is_not_there(index: list[int]) -> None:
    with pytest.raises(InputError, match="index"):
        some().select(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(6, 1, 3, 4)}, "float32"),
        ({"images": torch.zeros(6, 3, 4, dtype=torch.uint8)}, r"\(6, 3, 4\)"),
        ({"images": torch.zeros(0, 1, 3, 4, dtype=torch.uint8)}, "no images"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, r"labels must be int64 of shape \(6,\)"),
        ({"labels": torch.zeros(6)}, "float32"),
        ({"labels": torch.full((6,), -1)}, "one is -1"),
        ({"labels": torch.full((6,), 3)}, "a label is 3, but there are 3 classes"),
        ({"names": ("x",)}, "6 images but 1 names"),
        ({"groups": torch.zeros(2, dtype=torch.int64)}, "groups must be"),
    ],
)
def test_bad_fields_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(some(), **change)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(InputError, match="batch_size is 0; give a whole number of 1"):
        some().batches(0)
