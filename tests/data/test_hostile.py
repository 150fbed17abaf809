"""Sources that are not what they look like: numbers that are no classes, and files of deep pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gradiometer import data
from gradiometer.data.decode import decode
from gradiometer.data.rows import CLASSES, numbered
from gradiometer.errors import InputError
from tests.service.conftest import png


def test_a_column_of_identifiers_is_no_column_of_classes(tmp_path: Path) -> None:
    images = [{"bytes": png(np.zeros((4, 4), np.uint8))}] * 2
    table = pa.table({"image": images, "label": [0, 3_000_000_000]})
    pyarrow.parquet.write_table(table, tmp_path / "scans.parquet")
    with pytest.raises(InputError, match=r"labels of .*scans\.parquet reach 3000000000; give classes from 0"):
        data.load(tmp_path / "scans.parquet")


def test_classes_are_numbered_as_far_as_they_go() -> None:
    assert numbered(2, "x") == ("0", "1", "2")
    assert len(numbered(CLASSES - 1, "x")) == CLASSES
    with pytest.raises(InputError):
        numbered(CLASSES, "x")


def test_grey_maps_of_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 514], [32896, 65278, 65535]], dtype=np.uint16)
    path = tmp_path / "scan.pgm"
    path.write_bytes(b"P5\n3 2\n65535\n" + values.astype(">u2").tobytes())
    assert np.asarray(decode(path)).tolist() == [[0, 1, 2], [128, 254, 255]]
