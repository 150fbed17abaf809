"""Labels: bins that are as even as they can be, whatever the order of the scans, and cuts that keep the order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiometer.errors import InputError
from gradiometer.severity import Cuts, severity_labels

scores_ = st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=80).filter(lambda some: min(some) < max(some))


@given(scores_, st.data())
@settings(max_examples=100)
def test_equal_frequency_bins_differ_by_at_most_one_and_follow_the_scores(
    scores: list[float], data: st.DataObject
) -> None:
    bins = data.draw(st.integers(2, len(scores)))
    labels = severity_labels(scores, bins)
    counts = np.bincount(labels, minlength=bins)
    assert len(counts) == bins
    assert counts.max() - counts.min() <= 1
    order = np.lexsort((labels, scores))
    assert (np.diff(labels[order]) >= 0).all()


@given(scores_, st.integers(0, 1000), st.sampled_from(["equal-frequency", "equal-width"]))
@settings(max_examples=100)
def test_labels_of_files_do_not_depend_on_their_order(scores: list[float], seed: int, way: str) -> None:
    scores[0] = scores[-1]  # a tie at least
    if min(scores) == max(scores):
        return
    files = [f"{row:03}.png" for row in range(len(scores))]
    order = np.random.default_rng(seed).permutation(len(scores))
    labels = severity_labels(scores, 2, way, keys=files)  # type: ignore[arg-type]
    again = severity_labels(np.array(scores)[order], 2, way, keys=[files[row] for row in order])  # type: ignore[arg-type]
    assert (labels[order] == again).all()


@given(scores_, st.data())
@settings(max_examples=100)
def test_equal_width_bins_are_those_of_numpy(scores: list[float], data: st.DataObject) -> None:
    values = np.round(np.array(scores) / 1e297, 3)
    if values.min() == values.max():
        return
    bins = data.draw(st.integers(2, len(scores)))
    labels = severity_labels(values, bins, "equal-width")
    counts = np.bincount(labels, minlength=bins)
    edges = np.linspace(values.min(), values.max(), bins + 1)
    inside = np.abs(values[:, None] - edges[1:-1]).min(1) > 1e-9 * np.ptp(values)  # rounding decides at an edge
    assert (labels[inside] == np.digitize(values[inside], edges[1:-1])).all()
    assert counts.sum() == len(values)
    assert labels[values.argmin()] == 0
    assert labels[values.argmax()] == bins - 1


def test_ties_are_ordered_by_name_and_every_number_of_bins_works() -> None:
    assert severity_labels([1.0, 1.0, 0.0, 1.0], 2, keys=["c", "a", "z", "b"]).tolist() == [1, 0, 0, 1]
    scores = np.random.default_rng(0).normal(size=12_000)
    assert len(np.unique(severity_labels(scores, 10_000))) == 10_000
    assert (severity_labels(scores, 2) == (scores > np.median(scores))).all()


@pytest.mark.parametrize(
    ("scores", "bins", "settings", "message"),
    [
        ([0.1, 0.2, 0.3], 4, {}, "4 bins are more than the 3 scans"),
        ([0.1, 0.2], 1, {}, "1 bins are not possible; give 2 to 10,000"),
        ([0.1, 0.2], 10_001, {}, "10001 bins are not possible"),
        ([0.1, np.nan, np.inf], 2, {}, "2 of 3 scores are NaN or infinite, the first in row 1"),
        ([0.5, 0.5, 0.5], 2, {}, "all 3 scores are 0.5"),
        ([], 2, {}, r"one number for each scan, got shape \(0,\)"),
        ([0.1, 0.2], 2, {"way": "by-hand"}, "way must be one of equal-frequency, equal-width"),
        ([0.1, 0.2], 2, {"keys": ["a", "a"]}, "all different; got 1 of 2"),
        ([0.1, 0.2], 2, {"keys": ["a"]}, "all different; got 1 of 1"),
    ],
)
def test_what_cannot_be_labelled_is_refused(scores: list[float], bins: int, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        severity_labels(scores, bins, **settings)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 4)), min_size=1, max_size=60, unique_by=lambda p: p[0]))
@settings(max_examples=100)
def test_cuts_give_as_many_scans_each_grade_as_had_it(pairs: list[tuple[float, int]]) -> None:
    scores, grades = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    ordered = np.sort(scores)
    if (np.diff(ordered) < 1e-6).any():  # so close that the middle between two is one of them
        return
    said = Cuts.fit(scores, grades).label(scores)
    assert np.bincount(said, minlength=5).tolist() == np.bincount(grades, minlength=5).tolist()
    assert (np.diff(said[np.argsort(scores)]) >= 0).all()


def test_cuts_of_scores_that_order_the_grades_give_them_back() -> None:
    grades = np.array([0, 0, 2, 3, 3, 1])
    cuts = Cuts.fit(grades + 0.1, grades)
    assert cuts.label(grades + 0.1).tolist() == grades.tolist()
    assert cuts.label([-100.0, 100.0]).tolist() == [0, 3]
    with pytest.raises(InputError, match="3 whole numbers from 0, one for each scan, got float64"):
        Cuts.fit([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    with pytest.raises(InputError, match="whole numbers from 0"):
        Cuts.fit([1.0, 2.0], [-1, 2])
