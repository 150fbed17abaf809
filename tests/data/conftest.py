"""Small sources of images, written with nothing but NumPy, Pillow and pyarrow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def _smooth(height: int, width: int, seed: int) -> Pixels:
    """A colour picture that compression changes little."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + seed + k)) + np.cos(columns / (4 + k)) for k in range(3)]
    return np.round(np.stack(waves, -1) * 60 + 128).astype(np.uint8)


def _encoded(pixels: Pixels, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def bad_files() -> dict[str, bytes]:
    """Name -> bytes of files that are no images."""
    jpeg = _encoded(_smooth(64, 64, 0), "JPEG")
    png = _encoded(_smooth(64, 64, 1))
    return {
        "empty.png": b"",
        "text.jpg": b"this is not an image",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "zeros.jpg": b"\0" * 500,
    }


@pytest.fixture
def class_folder(tmp_path: Path) -> tuple[Path, dict[str, Pixels]]:
    """Two classes with three colour PNG files of 10 x 12 pixels each, and the pixels by path."""
    folder = tmp_path / "pictures"
    pixels = {}
    for number, title in enumerate(["cats/a", "cats/b", "cats/c", "dogs/a", "dogs/b", "dogs/z"]):
        path = folder / f"{title}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels[str(path)] = _smooth(10, 12, number)
        path.write_bytes(_encoded(pixels[str(path)]))
    (folder / "cats" / "notes.txt").write_text("passed over")
    (folder / "cats" / ".hidden.png").write_bytes(b"passed over")
    return folder, pixels


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, dict[str, NDArray[np.generic]]]:
    """An archive with a colour train and test split, and what is in it."""
    random = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {
        "train_images": random.integers(0, 256, (20, 5, 6, 3)).astype(np.uint8),
        "train_labels": (np.arange(20) % 4)[:, None],
        "train_tracks": np.arange(20) // 8,
        "test_images": random.integers(0, 256, (7, 5, 6, 3)).astype(np.uint8),
        "test_labels": np.arange(7) % 3,
    }
    path = tmp_path / "pack.npz"
    np.savez_compressed(path, **arrays)
    return path, arrays


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, list[Pixels]]:
    """A Parquet table of nine PNG images in three row groups with class names, row 4 without an image."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pixels = [_smooth(8, 8, number) for number in range(9)]
    images = [{"bytes": None if row == 4 else _encoded(p), "path": f"{row}.png"} for row, p in enumerate(pixels)]
    labels = [["oak", "elm", "ash"][row % 3] for row in range(9)]
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"image": images, "label": labels}), path, row_group_size=4)
    return path, pixels
