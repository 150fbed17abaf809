"""Pixel figures against cases that can be done by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gradiometer.benchmarks.pixels import LIMIT, pixel_metrics
from gradiometer.errors import InputError


def two_regions() -> tuple[np.ndarray, np.ndarray]:
    """One image of 10 x 10: a region of 8 pixels and one of 1 pixel."""
    masks = np.zeros((1, 10, 10), dtype=bool)
    masks[0, 0, :8] = True
    masks[0, 5, 5] = True
    return np.zeros((1, 10, 10)), masks


def test_a_map_that_is_the_mask_is_perfect() -> None:
    _, masks = two_regions()
    found = pixel_metrics(masks.astype(float), masks, draws=0)
    assert found.auroc.value == found.pro.value == pytest.approx(1.0)
    assert (found.images, found.regions) == (1, 2)


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    maps, masks = two_regions()
    maps[0, 0, :8] = 1.0  # the large region is found, the small one is below everything
    maps[0, 5, 5] = -1.0
    found = pixel_metrics(maps, masks, draws=0)
    # Without any false pixel one of two regions is found, and the other one only after all of them.
    assert found.pro.value == pytest.approx(0.5)
    assert found.auroc.value == pytest.approx(8 / 9)


def test_the_overlap_is_averaged_over_rates_up_to_the_limit() -> None:
    """A region of 10 pixels among 100 unmarked ones, found one by one, each after one false pixel more."""
    maps, masks = np.zeros((1, 11, 10)), np.zeros((1, 11, 10), dtype=bool)
    masks[0, 0] = True
    maps[0, 1:] = np.arange(100, 0, -1.0).reshape(10, 10)
    maps[0, 0] = np.arange(100, 90, -1.0) - 0.5  # below the first false pixel, above the second, and so on
    found = pixel_metrics(maps, masks, draws=0)
    # Between k and k + 1 false pixels of 100, k of the 10 are found: nine steps up to a rate of 0.1, then all.
    expected = (sum(range(10)) / 10 / 100 + (LIMIT - 0.1)) / LIMIT
    assert found.pro.value == pytest.approx(expected, abs=0.005)


def test_constant_maps_find_what_chance_finds() -> None:
    _, masks = two_regions()
    found = pixel_metrics(np.ones((1, 10, 10)), masks, draws=0)
    assert found.auroc.value == 0.5
    assert found.pro.value == pytest.approx(LIMIT / 2, abs=1e-6)


def test_the_area_is_that_of_scikit_learn_and_intervals_hold_it() -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((12, 8, 8), dtype=bool)
    masks[:6, 2:4, 3:6] = True
    maps = generator.normal(size=masks.shape) + masks
    found = pixel_metrics(maps, masks, seed=1, draws=50)
    assert found.auroc.value == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    for interval in (found.auroc, found.pro):
        assert interval.low < interval.value < interval.high
    assert pixel_metrics(maps, masks, seed=1, draws=50) == found
    # Only the order of the values counts.
    other = pixel_metrics(np.exp(maps), masks, seed=1, draws=0)
    assert other.pro.value == pytest.approx(found.pro.value, abs=0.01)


@pytest.mark.parametrize("marked", [False, True])
def test_masks_that_tell_nothing_apart_are_refused(marked: bool) -> None:
    with pytest.raises(InputError, match="no pixel, or every one"):
        pixel_metrics(np.ones((1, 4, 4)), np.full((1, 4, 4), marked))


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="of one shape"):
        pixel_metrics(np.ones((1, 4, 4)), np.ones((1, 4, 5), dtype=bool))
    with pytest.raises(InputError, match="finite"):
        pixel_metrics(np.full((1, 4, 4), np.nan), np.eye(4, dtype=bool)[None])
