from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradiometer.data import Images, load, split
from gradiometer.errors import InputError

SHARES = {"fit": 0.6, "calibrate": 0.2, "test": 0.2}


def made(labels: list[int] | None, groups: list[int] | None = None, classes: tuple[str, ...] = ()) -> Images:
    count = len(labels if labels is not None else groups or [])
    images = Images.of(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels, classes=classes)
    return images if groups is None else replace(images, groups=torch.tensor(groups))


@given(
    counts=st.lists(st.integers(10, 60), min_size=1, max_size=6),
    weights=st.lists(st.integers(2, 6), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
)
def test_shares_are_met_in_every_class_and_over_all(counts: list[int], weights: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = made(labels.tolist())
    shares = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    parts = split(images, shares, seed)
    assert sorted(name for part in parts.values() for name in part.names) == sorted(images.names)
    for name, part in parts.items():
        assert part.labels is not None
        for label, size in enumerate(counts):
            assert abs(int((part.labels == label).sum()) - shares[name] * size) < 1 + 1e-6
        assert abs(len(part) - shares[name] * len(images)) <= len(shares)


@given(sizes=st.lists(st.integers(1, 9), min_size=12, max_size=60), seed=st.integers(0, 2**31))
def test_parts_never_share_a_base_image(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(random.permutation(len(sizes)) * 7, sizes))
    images = made(None, groups.tolist())
    parts = split(images, SHARES, seed)
    found = [set(part.groups.tolist()) for part in parts.values()]
    assert sum(len(part) for part in found) == len(set().union(*found)) == len(sizes)
    assert sum(len(part) for part in parts.values()) == len(images)
    for name, part in parts.items():
        assert abs(len(part) - SHARES[name] * len(images)) <= max(sizes)


def test_the_seed_decides() -> None:
    digits = load("digits", limit=300)
    one, same, other = (split(digits, SHARES, seed) for seed in (1, 1, 2))
    assert all(one[name].names == same[name].names for name in SHARES)
    assert one["fit"].names != other["fit"].names


def test_rows_keep_their_order_and_content() -> None:
    digits = load("digits", limit=300)
    for part in split(digits, SHARES).values():
        where = [digits.names.index(name) for name in part.names]
        assert where == sorted(where)
        assert torch.equal(part.images, digits.images[where])


def test_what_is_left_over_is_left_out() -> None:
    parts = split(made([0, 1] * 50), {"fit": 0.3, "test": 0.1})
    assert {name: len(part) for name, part in parts.items()} == {"fit": 30, "test": 10}


def test_few_base_images_still_reach_every_part() -> None:
    parts = split(made(None, [0, 1, 2] * 40), {"fit": 0.4, "calibrate": 0.1, "test": 0.5})
    assert [len(part.groups.unique()) for part in parts.values()] == [1, 1, 1]


def test_rounding_evens_out_over_many_classes() -> None:
    parts = split(made(sorted(list(range(100)) * 7)), {"fit": 0.6, "calibrate": 0.2, "test": 0.2})
    assert {name: len(part) for name, part in parts.items()} == {"fit": 420, "calibrate": 140, "test": 140}


def test_a_class_without_images() -> None:
    images = made([0, 2] * 30, classes=("cat", "dog", "owl"))
    with pytest.raises(InputError, match=r"class 'dog' \(label 1\) has no images"):
        split(images, SHARES)
    assert sum(len(part) for part in split(images, SHARES, stratify=False).values()) == 60


def test_too_few_images_of_a_class() -> None:
    images = made([0] * 50 + [1] * 3, classes=("cat", "dog"))
    with pytest.raises(InputError, match=r"class 'dog' \(label 1\) has 3 images, too few for the share calibrate=0.2"):
        split(images, SHARES)
    with pytest.raises(InputError, match="at least 5 images"):
        split(images, SHARES)


def test_too_few_base_images() -> None:
    with pytest.raises(InputError, match="there are 40 images of 2 base images, too few for 3 parts"):
        split(made(None, [0, 1] * 20), SHARES)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "no shares"),
        ({"fit": 0.0}, "'fit' is 0.0"),
        ({"fit": float("nan")}, "'fit' is nan"),
        ({"fit": 0.8, "test": 0.3}, "add up to 1.1"),
    ],
)
def test_bad_shares(shares: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(made([0] * 20), shares)
