"""CIFAR-10-C in miniature: one uint8 .npy for each corruption, five levels one after the other, and labels.npy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gradiometer.data import count, load, split, stream
from gradiometer.errors import InputError

ORIGINALS = 6
Corrupted = tuple[Path, NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def corrupted(tmp_path: Path) -> Corrupted:
    """The file, its pixels, and the labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (5 * ORIGINALS, 8, 9, 3)).astype(np.uint8)
    labels = np.tile(np.array([3, 1, 0, 2, 1, 9], np.uint8), 5)
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "fog.npy", pixels)
    np.save(folder / "gaussian_noise.npy", pixels[::-1])
    np.save(folder / "labels.npy", labels)
    return folder / "fog.npy", pixels, labels


def test_all_levels(corrupted: Corrupted) -> None:
    path, pixels, labels = corrupted
    images = load(path)
    np.testing.assert_array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels.numpy(), labels)
    assert images.groups.tolist() == [row % ORIGINALS for row in range(5 * ORIGINALS)]
    assert len(images.classes) == 10


@pytest.mark.parametrize("level", [1, 2, 5])
def test_one_level_is_its_block(corrupted: Corrupted, level: int) -> None:
    path, pixels, labels = corrupted
    images = load(path, split=f"level{level}")
    rows = slice((level - 1) * ORIGINALS, level * ORIGINALS)
    np.testing.assert_array_equal(images.images.permute(0, 2, 3, 1).numpy(), pixels[rows])
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels.numpy(), labels[rows])
    assert images.groups.tolist() == list(range(ORIGINALS))  # the rows of the test set
    assert images.names[2] == f"fog.npy#{(level - 1) * ORIGINALS + 2}"


def test_by_name_in_a_root(corrupted: Corrupted) -> None:
    root = corrupted[0].parent.parent
    named = load("CIFAR-10-C/fog", root=root, split="level2")
    assert named.names == load(corrupted[0], split="level2").names
    assert load("CIFAR-10-C/fog.npy", root=root, split="level2").names == named.names


def test_batch_by_batch(corrupted: Corrupted) -> None:
    path = corrupted[0]
    assert count(path, split="level3") == ORIGINALS
    batches = list(stream(path, batch_size=4, split="level3", skip=1))
    assert [batch.stop for batch in batches] == [5, 6]
    assert [name for batch in batches for name in batch.names] == list(load(path, split="level3").names[1:])


def test_a_split_keeps_the_levels_of_an_image_together(corrupted: Corrupted) -> None:
    parts = split(load(corrupted[0]), {"one": 0.5, "other": 0.5}, stratify=False)
    assert not set(parts["one"].groups.tolist()) & set(parts["other"].groups.tolist())


def test_labels_of_the_originals_alone_are_repeated(corrupted: Corrupted) -> None:
    path, _, labels = corrupted
    np.save(path.with_name("labels.npy"), labels[:ORIGINALS])
    images = load(path)
    assert images.labels is not None
    np.testing.assert_array_equal(images.labels.numpy(), labels)


def test_grey_arrays(tmp_path: Path) -> None:
    pixels = np.arange(5 * 2 * 12, dtype=np.uint8).reshape(10, 3, 4)
    np.save(tmp_path / "labels.npy", np.zeros(10, np.int64))
    for shaped in (pixels, pixels[..., None]):
        np.save(tmp_path / "fog.npy", shaped)
        np.testing.assert_array_equal(load(tmp_path / "fog.npy").images[:, 0].numpy(), pixels)


def test_the_folder_alone_is_not_enough(corrupted: Corrupted) -> None:
    with pytest.raises(InputError, match=r"arrays of 2 corruptions; .*CIFAR-10-C/fog; there are fog, gaussian_noise"):
        load(corrupted[0].parent)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((10, 4, 4, 3), np.float32), np.zeros(10, int), "has type float32"),
        (np.zeros((10, 4, 4, 2), np.uint8), np.zeros(10, int), r"shape \(10, 4, 4, 2\)"),
        (np.zeros((11, 4, 4, 3), np.uint8), np.zeros(11, int), "11 images, which is not the same number"),
        (np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, int), "0 images"),
        (np.zeros((10, 4, 4, 3), np.uint8), np.zeros(7, int), r"shape \(7,\) for 10 images"),
        (np.zeros((10, 4, 4, 3), np.uint8), np.zeros(10), "type float64"),
        (np.array([None] * 10), np.zeros(10, int), "hold Python objects"),
    ],
)
def test_bad_arrays(tmp_path: Path, pixels: NDArray[np.generic], labels: NDArray[np.generic], message: str) -> None:
    np.save(tmp_path / "fog.npy", pixels)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "fog.npy")


def test_bad_splits_and_files(corrupted: Corrupted) -> None:
    path = corrupted[0]
    with pytest.raises(InputError, match=r"no split 'test'; its splits are level1, level2"):
        load(path, split="test")
    with pytest.raises(InputError, match=r"no file .*snow.npy"):
        load(path.with_name("snow.npy"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="truncated"):
        load(path)
    path.with_name("labels.npy").unlink()
    with pytest.raises(InputError, match="there are no labels beside"):
        load(path)


def test_a_damaged_header(corrupted: Corrupted) -> None:
    path, _, _ = corrupted
    path.write_bytes(path.read_bytes().replace(b"'descr'", b"(descr'", 1))
    with pytest.raises(InputError, match=r"fog\.npy cannot be read as a plain array"):
        load(path)
