"""Splits by base image, and the null test, also on splits that leak on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiometer.benchmarks import protocols
from gradiometer.errors import InputError


@given(st.lists(st.integers(0, 30), min_size=3, max_size=200), st.integers(0, 5))
def test_a_split_takes_every_row_once_and_divides_no_base_image(groups, seed):
    if len(set(groups)) < 3:
        return
    parts = protocols.split(groups, seed=seed)
    rows = np.concatenate([index for _, index in parts.parts()])
    assert sorted(rows) == list(range(len(groups)))
    sets = [set(np.array(groups)[index]) for _, index in parts.parts()]
    assert all(sets)
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]


def test_the_shares_are_those_of_the_protocol():
    parts = protocols.split(np.arange(1000), seed=3)
    assert [len(index) for _, index in parts.parts()] == [400, 100, 500]
    assert len(parts.seen) == 500
    again, other = protocols.split(np.arange(1000), seed=3), protocols.split(np.arange(1000), seed=4)
    np.testing.assert_array_equal(parts.test, again.test)
    assert set(parts.test) != set(other.test)


def test_images_made_from_known_ones_go_where_their_base_image_is():
    known_groups = np.repeat(np.arange(20), 2)
    parts = protocols.split(known_groups)
    made = np.array([7, 3, 19, 7, 0])
    followed = protocols.follow(parts, known_groups, made)
    for name, rows in followed.parts():
        assert set(made[rows]) <= set(known_groups[getattr(parts, name)])
    assert sum(len(rows) for _, rows in followed.parts()) == len(made)
    with pytest.raises(InputError, match="base image 99"):
        protocols.follow(parts, known_groups, [99])


def test_halves_share_no_base_image():
    groups = np.repeat(np.arange(9), 3)
    rows = np.arange(3, 27)
    first, second = protocols.halves(rows, groups, seed=1)
    assert sorted([*first, *second]) == list(rows)
    assert not set(groups[first]) & set(groups[second])
    assert len(first) == len(second)
    with pytest.raises(InputError, match="at least 2"):
        protocols.halves([0, 1, 2], groups)


def test_too_few_base_images_are_refused():
    with pytest.raises(InputError, match="at least 3 base images, got 2"):
        protocols.split([0, 0, 1, 1, 1])


def test_a_split_that_leaks_is_refused_with_both_parts_named():
    groups = np.repeat(np.arange(10), 2)  # two rows of each base image
    whole = protocols.Split(train=np.arange(8), validate=np.arange(8, 10), test=np.arange(10, 20))
    protocols.check_disjoint(whole, groups)
    by_row = protocols.Split(train=np.arange(8), validate=np.array([8]), test=np.arange(9, 20))
    with pytest.raises(InputError, match="1 base images are in both 'validate' and 'test', for example 4"):
        protocols.check_disjoint(by_row, groups)
    with pytest.raises(InputError, match="'fit' and 'test'"):
        protocols.check_disjoint({"fit": [0, 2], "test": [1, 4]}, groups)


def test_the_null_test_passes_on_images_of_one_kind():
    generator = np.random.default_rng(0)
    result = protocols.null_test(generator.normal(size=400), generator.normal(size=300), what="MSP", draws=200)
    assert 0.5 in result.auroc


def test_the_null_test_fails_loudly_on_a_leaky_split():
    """A detector that remembers the images it was fitted on, tested on a split that put them on one side."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(600, 5))
    fitted = images[:300]

    def distance(rows: np.ndarray) -> np.ndarray:
        return np.sqrt(((rows[:, None] - fitted) ** 2).sum(-1)).min(1)

    honest = distance(images[300:450]), distance(images[450:])
    assert 0.5 in protocols.null_test(*honest, what="neighbours", draws=200).auroc
    leaky = distance(images[200:350]), distance(images[450:])  # 100 of the known ones were fitted on
    with pytest.raises(InputError, match=r"null test of neighbours failed.*AUROC of 0\.\d+"):
        protocols.null_test(*leaky, what="neighbours", draws=200)


def test_the_null_test_fails_when_one_side_was_scaled_differently():
    generator = np.random.default_rng(0)
    with pytest.raises(InputError, match="scaled the same way"):
        protocols.null_test(generator.normal(size=300), generator.normal(size=300) * 1.0 + 0.4, what="norms", draws=200)
