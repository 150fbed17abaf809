"""The nearest-neighbour density against a search by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.scaling import LogScale
from gradiometer.errors import InputError, NotFittedError


def statistics(count: int, columns: int = 6, seed: int = 0) -> np.ndarray:
    """Positive values over many decades, as squared norms are."""
    generator = np.random.default_rng(seed)
    decades = np.arange(columns) % 6
    return np.exp(generator.normal(size=(count, columns)) * (1 + decades) - 20 * decades)


def by_hand(known: np.ndarray, queries: np.ndarray, neighbours: int) -> np.ndarray:
    logs, deviation = np.log(known), np.log(known).std(0)
    scores = []
    for query in queries:
        distances = [np.sqrt((((np.log(query) - row) / deviation) ** 2).sum()) for row in logs]
        scores.append(sorted(distances)[neighbours - 1])
    return np.array(scores)


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_scores_are_the_distance_to_the_kth_neighbour(neighbours):
    known, queries = statistics(200), statistics(50, seed=1)
    density = NeighbourDensity(neighbours).fit(known)
    np.testing.assert_allclose(density.score(queries), by_hand(known, queries, neighbours), rtol=1e-12)


def test_small_distances_are_exact_and_batches_do_not_matter():
    known = statistics(2000, columns=40)
    density = NeighbourDensity(1).fit(known)
    assert not density.score(known).any()
    nearly = known[:5] * np.exp(1e-9)
    np.testing.assert_allclose(density.score(nearly), by_hand(known, nearly, 1), rtol=1e-6)
    whole = density.score(statistics(1100, 40, seed=2))
    parts = np.concatenate([density.score(part) for part in np.array_split(statistics(1100, 40, seed=2), 7)])
    assert np.array_equal(whole, parts)


def test_both_sides_of_the_known_are_strange():
    known = statistics(500)
    density = NeighbourDensity().fit(known)
    usual = density.score(statistics(300, seed=1))
    for factor in (1e-12, 1e12):
        assert roc_auc_score([0] * 300 + [1] * 300, [*usual, *density.score(statistics(300, seed=2) * factor)]) > 0.99


def test_constant_columns_are_dropped_and_do_not_disturb():
    known, queries = statistics(100), statistics(20, seed=1)
    expected = NeighbourDensity().fit(known).score(queries)
    noise = 3.0 * (1 + 1e-8 * np.random.default_rng(0).normal(size=(100, 1)))
    wider = NeighbourDensity().fit(np.hstack([np.zeros((100, 1)), known, noise]))
    assert np.array_equal(wider.score(np.hstack([np.ones((20, 1)), queries, np.full((20, 1), 9.0)])), expected)
    assert np.count_nonzero(wider.scale.deviation) == 6


def test_exact_zeros_have_a_place_below_all_others():
    known = statistics(400, columns=2)
    known[:40, 0] = 0.0
    density = NeighbourDensity(5).fit(known)
    scores = density.score(np.array([[0.0, known[0, 1]], [5e-324, known[0, 1]], [known[50, 0], known[50, 1]]]))
    assert np.isfinite(scores).all()
    # Zeros are usual here, and what is smaller than the floor counts as zero.
    assert scores[0] == scores[1]
    assert scores[0] < 1
    smallest = known[known[:, 0] > 0, 0].min()
    np.testing.assert_allclose(density.scale.floor[0], smallest / 1000)
    assert NeighbourDensity(5).fit(statistics(400, columns=2)).score([[0.0, known[0, 1]]]) > 3


def test_subnormal_and_huge_values_stay_finite():
    known = np.array([[5e-324, 1e300], [1e-310, 1e305], [2e-308, 1e308], [1e-300, 1.0]])
    density = NeighbourDensity(2).fit(known)
    assert np.isfinite(density.score([[0.0, 0.0], [1.7e308, 5e-324]])).all()


def test_state_gives_back_the_same_scores():
    density = NeighbourDensity(3).fit(statistics(60))
    again = NeighbourDensity.restore(density.state())
    assert again.neighbours == 3
    assert np.array_equal(again.score(statistics(20, seed=1)), density.score(statistics(20, seed=1)))


def test_what_cannot_be_used_is_refused():
    with pytest.raises(NotFittedError, match="call fit first"):
        NeighbourDensity().score(statistics(3))
    with pytest.raises(NotFittedError, match="nothing to save"):
        NeighbourDensity().state()
    with pytest.raises(InputError, match="neighbours is 0"):
        NeighbourDensity(0)
    with pytest.raises(InputError, match=r"10 known image\(s\) are too few for 10 neighbours; give at least 11"):
        NeighbourDensity(10).fit(statistics(10))
    with pytest.raises(InputError, match="none of the 4 statistics varies"):
        NeighbourDensity(1).fit(np.ones((20, 4)))
    with pytest.raises(InputError, match="two or more known images"):
        LogScale.fit(np.ones((1, 3)))
    density = NeighbourDensity(1).fit(statistics(20))
    with pytest.raises(InputError, match=r"shape \(3, 5\); expected \(N, 6\)"):
        density.score(statistics(3, columns=5))
    for value in (np.nan, np.inf, -1e-9):
        broken = statistics(4)
        broken[2, 1] = value
        with pytest.raises(InputError, match="the first is row 2"):
            density.score(broken)
