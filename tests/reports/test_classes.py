"""The figure of one normal class after the other."""

from __future__ import annotations

import re

import pytest

from gradiometer.errors import InputError
from gradiometer.reports.classes import by_class

ROWS = {"published": {"cat": 0.58, "ship": 0.774}, "plain pixels": {"cat": 0.5904, "ship": 0.78}}


def test_every_row_is_drawn_and_said():
    svg = by_class(ROWS, prefix="c")
    assert "published: cat 0.580, ship 0.774; plain pixels: cat 0.590, ship 0.780" in svg
    for word in ("published", "plain pixels", "cat", "ship"):
        assert re.search(rf"<text[^>]*>{word}</text>", svg)


@pytest.mark.parametrize(
    "rows",
    [
        {"one": ROWS["published"]},
        {str(number): ROWS["published"] for number in range(5)},
        {**ROWS, "other": {"cat": 0.5}},
        {},
    ],
)
def test_rows_that_cannot_be_compared_are_refused(rows: dict[str, dict[str, float]]):
    with pytest.raises(InputError, match="two to 4 rows with the same classes"):
        by_class(rows, prefix="c")
