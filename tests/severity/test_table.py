"""The table of severities comes back value for value, and refuses what is no table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradiometer.errors import ArtefactError, InputError
from gradiometer.severity import SeverityTable

text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> SeverityTable:
    files = draw(st.lists(text, min_size=1, max_size=8, unique=True))
    size = {"min_size": len(files), "max_size": len(files)}
    whole = st.one_of(st.none(), st.lists(st.integers(0, 2**40), **size))
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    patients = draw(st.one_of(st.none(), st.lists(text, **size)))
    labels, grades = draw(whole), draw(whole)
    return SeverityTable(
        tuple(files),
        np.array(draw(st.lists(numbers, **size))),
        np.array(draw(st.lists(st.floats(0, 1), **size))),
        None if patients is None else tuple(patients),
        None if labels is None else np.array(labels, np.int64),
        None if grades is None else np.array(grades, np.int64),
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@given(table=tables())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(table: SeverityTable, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    table.write(path)
    found = SeverityTable.read(path)
    assert found.columns() == table.columns()
    assert found.scores.tobytes() == table.scores.tobytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name]


def a_table(**columns: object) -> SeverityTable:
    given = {"files": ("b", "a", "c"), "scores": np.array([0.2, 0.2, 0.1]), "percentiles": np.array([0.5, 0.5, 0.0])}
    return SeverityTable(**{**given, **columns})  # type: ignore[arg-type]


def test_labels_follow_the_files_and_ranks_the_scores() -> None:
    table = a_table(patients=("p", "q", "p"), grades=np.array([1, 2, 0]))
    assert table.labelled(3).by_file() == {"c": 0, "a": 1, "b": 2}
    assert table.ranked().files == ("a", "b", "c")
    assert table.ranked().patients == ("q", "p", "p")
    assert table.ranked().grades is not None
    assert table.ranked().grades.tolist() == [2, 1, 0]
    with pytest.raises(InputError, match="no severity labels yet"):
        table.by_file()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"files": ("a", "a", "c")}, "the file 'a' occurs twice"),
        ({"files": ("a", "", "c")}, "the file of row 1 is ''"),
        ({"files": ()}, "one scan or more"),
        ({"scores": np.array([0.1, np.nan, 0.2])}, "1 of 3 scores are NaN or infinite, the first in row 1"),
        ({"scores": np.array([0.1, 0.2])}, "3 files but 2 scores"),
        ({"percentiles": np.array([0.1, 0.2, 1.2])}, r"shares in \[0, 1\]"),
        ({"patients": ("p", "q")}, "3 files but 2 patients"),
        ({"patients": ("p", "", "q")}, "the patient of row 1 is ''"),
        ({"grades": np.array([0, -1, 2])}, "whole numbers from 0"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "whole numbers from 0"),
    ],
)
def test_columns_that_are_no_table_are_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        a_table(**columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"file,score\na,0.1\n", "no column 'percentile'; its columns are file, score"),
        ("t.csv", b"", "no column 'file'; its columns are none"),
        ("t.csv", b"file,score,percentile\na,much,0\n", "line 2: score is 'much'"),
        ("t.csv", b"file,score,percentile\na,0.1\n", "line 2 has 2 values for 3 columns"),
        ("t.csv", b"file,score,percentile\na,0.1,0\na,0.2,0\n", "the file 'a' occurs twice"),
        ("t.csv", b"file,score,percentile\na,nan,0\n", "NaN or infinite"),
        ("t.csv", b"\xff\xfe", "cannot be read as CSV"),
        ("t.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("t.txt", b"", "must end in .parquet or .csv"),
    ],
)
def test_files_that_are_no_table_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InputError, ArtefactError), match=message):
        SeverityTable.read(tmp_path / name)


def test_missing_values_of_parquet_are_refused(tmp_path: Path) -> None:
    columns = {"file": ["a", "b"], "score": [0.1, None], "percentile": [0.0, 0.5]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: 1 of 2 scores are NaN"):
        SeverityTable.read(tmp_path / "t.parquet")


def test_tables_of_others_are_read_with_further_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\ufefffile,eye,score,percentile\na,left,1.5,0.25\n", encoding="utf-8")
    table = SeverityTable.read(tmp_path / "mine.csv")
    assert table.columns() == {"file": ["a"], "score": [1.5], "percentile": [0.25]}


def test_places_that_take_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        a_table().write(tmp_path / "none" / "t.csv")
    with pytest.raises(InputError, match="there is no file"):
        SeverityTable.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(ArtefactError, match="could not write"):
        a_table().write(tmp_path / "t.csv")
