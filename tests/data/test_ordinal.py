"""Class names and cells of tables: what is a number, and what is only numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradiometer import data
from gradiometer.data.cohort import shared_images
from gradiometer.data.ordinal import grades_of, values_of, words_of
from gradiometer.data.tables import read_table
from gradiometer.errors import InputError

DISEASE = ("mild", "moderate", "none", "proliferative", "severe")


def folders(home: Path, names: tuple[str, ...]) -> Path:
    for number, name in enumerate(names):
        (home / name).mkdir(parents=True)
        Image.new("L", (6, 6), number).save(home / name / "1.png")
    return home


def test_class_folders_are_grades_only_where_they_are_numbers(tmp_path: Path) -> None:
    labels = np.arange(5)
    with pytest.raises(InputError, match=r"mild = 0, moderate = 1, none = 2, .*name the classes 0, 1, 2"):
        grades_of(labels, DISEASE, "scans")
    assert grades_of(labels, ("0", "1", "10", "2", "3"), "scans").tolist() == [0, 1, 10, 2, 3]
    assert grades_of(labels, ("0 no DR", "1_mild", "3-severe", "4: worst", "5. none"), "x").tolist() == [0, 1, 3, 4, 5]
    for no_grades in (("1", "1 mild", "2", "3", "4"), tuple(f"2024-01-0{day}" for day in range(5))):
        with pytest.raises(InputError, match="no grades"):
            grades_of(labels, no_grades, "scans")
    # No names, and names that somebody has put in an order.
    assert grades_of(labels, (), "scans").tolist() == labels.tolist()
    assert grades_of(labels, ("none", "mild", "moderate", "severe", "proliferative"), "scans").tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert values_of(labels, DISEASE).tolist() == labels.tolist()
    words = words_of(DISEASE)
    assert words is not None
    assert words.texts == DISEASE


def test_the_column_class_has_the_numbers_of_the_folders_and_an_order_only_then(tmp_path: Path) -> None:
    numbered = data.load_cohort(folders(tmp_path / "numbers", ("1", "10", "2")))
    assert numbered.ordered("class").tolist() == [1, 10, 2]
    named = data.load_cohort(folders(tmp_path / "names", DISEASE))
    assert named.labels("class").tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"'class' has no order \(mild = 0, .*name the classes"):
        named.ordered("class")
    with pytest.raises(InputError, match="has no order"):
        named.select(np.array([1, 2])).ordered("class")
    # Saving does not make an order of it.
    data.save(named.images, tmp_path / "saved.npz")
    with pytest.raises(InputError, match="has no order"):
        data.load_cohort(tmp_path / "saved.npz").ordered("class")
    # A table's column of that name takes its place.
    table = tmp_path / "t.csv"
    table.write_text("file,class\n" + "".join(f"{name},{len(name)}\n" for name in named.images.names))
    assert named.with_table(read_table(table)).ordered("class").tolist() == [len(name) for name in named.images.names]


@pytest.mark.parametrize("cell", ["?", "270,5"])
def test_a_cell_that_is_no_number_is_named_and_an_empty_one_is_missing(cell: str, tmp_path: Path) -> None:
    home = folders(tmp_path / "scans", ("a", "b", "c", "d"))
    names = data.load(home).names
    for text in (cell, ""):
        cells = ["310", text, "9", "280"]
        rows = "".join(f'{name},"{value}",{eye}\n' for name, value, eye in zip(names, cells, "RLRL", strict=True))
        (tmp_path / "t.csv").write_text(f"file,CST,eye\n{rows}")
        # A column that nobody asks for stops nobody.
        cohort = data.load_cohort(home, table=tmp_path / "t.csv")
        assert cohort.labels("eye").tolist() == [1, 0, 1, 0]
        with pytest.raises(InputError, match=r"'eye' has no order \(L = 0, R = 1\): 'R' in the row of .*a/1\.png"):
            cohort.ordered("eye")
        if text:
            for call in (cohort.column, cohort.labels, cohort.ordered):
                with pytest.raises(InputError) as caught:
                    call("CST")
                assert f"{cell!r} in the row of {names[1]!r}" in str(caught.value)
                assert "leave it empty" in str(caught.value)
        else:
            np.testing.assert_array_equal(cohort.ordered("CST"), [310, np.nan, 9, 280])


def test_images_are_compared_where_a_patient_is_not_known() -> None:
    rng = np.random.default_rng(0)
    images = data.Images.of(rng.integers(0, 256, (6, 1, 4, 4)).astype(np.uint8))
    first, second = images.select([0, 1, 2, 3]), images.select([3, 4, 1, 5])
    of = data.Cohort.of
    assert shared_images(of(first), of(second)).tolist() == [0, 2]
    assert shared_images(of(first, list("abcd")), of(second, list("efgh"))).tolist() == []
    assert shared_images(of(first, list("abcd")), of(second, ["e", "f", "", "h"])).tolist() == [2]
    assert shared_images(of(first, ["a", "b", "c", ""]), of(second, list("efgh"))).tolist() == [0]
