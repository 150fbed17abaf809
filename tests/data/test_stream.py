from __future__ import annotations

import os
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gradiometer.data import Batch, count, load, stream
from gradiometer.errors import InputError

ClassFolder = tuple[Path, dict[str, NDArray[np.uint8]]]
Archive = tuple[Path, dict[str, NDArray[np.generic]]]


def rows(batches: list[Batch]) -> list[tuple[str, bytes]]:
    """Names and pixels of all rows that could be read."""
    return [
        (name, pixels.numpy().tobytes())
        for batch in batches
        for name, pixels in zip(batch.names, batch.images, strict=True)
    ]


@pytest.fixture
def mixed_folder(class_folder: ClassFolder, bad_files: dict[str, bytes]) -> Path:
    """Six good images and five bad ones; the first in order, `aa.png`, is bad and the second is grey."""
    folder, _ = class_folder
    for name, content in bad_files.items():
        (folder / "cats" / name).write_bytes(content)
    (folder / "cats" / "empty.png").rename(folder / "cats" / "Aa.png")
    return folder


def test_a_stream_is_what_load_loads(archive: Archive) -> None:
    batches = list(stream(archive[0], batch_size=6, split="train"))
    loaded = load(archive[0], split="train")
    assert [batch.start for batch in batches] == [0, 6, 12, 18]
    assert [len(batch.images) for batch in batches] == [6, 6, 6, 2]
    assert torch.equal(torch.cat([batch.images for batch in batches]), torch.cat(list(loaded.batches(20))))
    assert tuple(name for batch in batches for name in batch.names) == loaded.names


def test_bad_files_become_failures_and_the_rest_goes_on(mixed_folder: Path, class_folder: ClassFolder) -> None:
    batches = list(stream(mixed_folder, batch_size=4))
    assert [name for name, _ in rows(batches)] == sorted(class_folder[1])
    failures = [failure for batch in batches for failure in batch.failures]
    assert [Path(failure.name).name for failure in failures] == [
        "Aa.png",
        "text.jpg",
        "truncated.jpg",
        "truncated.png",
        "zeros.jpg",
    ]
    assert all(failure.reason for failure in failures)
    assert [batch.stop - batch.start for batch in batches] == [4, 4, 3]


def test_a_batch_of_failures_alone_is_empty(tmp_path: Path, bad_files: dict[str, bytes]) -> None:
    for name, content in bad_files.items():
        (tmp_path / name).write_bytes(content)
    (batch,) = stream(tmp_path, batch_size=10, size=8, channels=3)
    assert batch.images.shape == (0, 3, 8, 8)
    assert len(batch.failures) == batch.stop == 5
    with pytest.raises(InputError, match="none of the 5 images"):
        stream(tmp_path, batch_size=10, size=8)


def test_another_size_is_a_failure_unless_a_size_is_asked_for(class_folder: ClassFolder) -> None:
    folder, _ = class_folder
    Image.new("L", (4, 3), 200).save(folder / "cats" / "bb.png")
    (batch,) = stream(folder, batch_size=10)
    (failure,) = batch.failures
    assert failure.name.endswith("bb.png")
    assert "3 x 4 pixels where the others have 10 x 12" in failure.reason
    (batch,) = stream(folder, batch_size=10, size=(6, 5))
    assert batch.images.shape == (7, 3, 6, 5)
    assert batch.failures == ()
    np.testing.assert_allclose(batch.images[2].numpy(), 200 / 255, rtol=1e-6)  # grey, in the channels of the first


@pytest.mark.parametrize("wanted", [1, 3])
def test_images_take_the_channels_that_they_should_have(class_folder: ClassFolder, tmp_path: Path, wanted: int) -> None:
    colour, _ = class_folder
    (tmp_path / "grey").mkdir()
    for number in range(3):
        Image.new("L", (12, 10), 60 * number).save(tmp_path / "grey" / f"{number}.png")
    for folder in (colour, tmp_path / "grey"):
        (batch,) = stream(folder, batch_size=10, shape=(wanted, 10, 12))
        assert batch.images.shape[1:] == (wanted, 10, 12)
        (asked,) = stream(folder, batch_size=10, channels=wanted)
        assert torch.equal(batch.images, asked.images)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(skip=st.integers(0, 14), batch_size=st.integers(1, 12))
def test_resuming_gives_the_same_rows(mixed_folder: Path, skip: int, batch_size: int) -> None:
    whole = list(stream(mixed_folder, batch_size=1))
    rest = list(stream(mixed_folder, batch_size=batch_size, skip=skip))
    assert rows(rest) == rows(whole[skip:])
    assert [f for batch in rest for f in batch.failures] == [f for batch in whole[skip:] for f in batch.failures]
    assert [batch.start for batch in rest] == list(range(skip, 11, batch_size))


@pytest.mark.parametrize("skip", [0, 3, 4, 6, 8, 9])
def test_resuming_a_table_over_row_groups(table: tuple[Path, list[NDArray[np.uint8]]], skip: int) -> None:
    whole = list(stream(table[0], batch_size=1))
    assert rows(list(stream(table[0], batch_size=2, skip=skip))) == rows(whole[skip:])


@pytest.mark.parametrize("skip", [0, 1, 19, 20, 25])
def test_resuming_an_archive(archive: Archive, skip: int) -> None:
    whole = list(stream(archive[0], batch_size=1, split="train"))
    assert rows(list(stream(archive[0], batch_size=3, split="train", skip=skip))) == rows(whole[skip:])


def test_the_size_is_that_of_the_first_image_whatever_is_skipped(class_folder: ClassFolder) -> None:
    folder, _ = class_folder
    Image.new("RGB", (4, 3)).save(folder / "cats" / "bb.png")
    assert next(stream(folder, batch_size=1, skip=2)).failures


@pytest.mark.parametrize("compressed", [False, True])
def test_memory_does_not_grow_with_the_archive(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "large.npz"
    (np.savez_compressed if compressed else np.savez)(path, images=np.zeros((40_000, 32, 32), np.uint8))  # 41 MB
    tracemalloc.start()
    for batch in stream(path, batch_size=500):
        assert len(batch.images) == 500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_count_agrees_with_the_stream(mixed_folder: Path, archive: Archive) -> None:
    assert count(mixed_folder) == 11
    assert count(archive[0], split="test") == 7
    assert count("digits") == 1797


def test_errors_come_before_the_first_batch(tmp_path: Path) -> None:
    for arguments, message in [
        ({"batch_size": 0}, "batch_size is 0; give a whole number of 1"),
        ({"batch_size": 1, "skip": -1}, "skip is -1; give a whole number of 0"),
        ({"batch_size": 1, "channels": 4}, "channels must be"),
        ({"batch_size": 1, "split": "train"}, "no split"),
    ]:
        with pytest.raises(InputError, match=message):
            stream("digits", **arguments)
    with pytest.raises(InputError, match="holds no images"):
        stream(tmp_path, batch_size=1)


@pytest.fixture
def _impatient() -> Iterator[None]:
    """Let what waits for ever fail instead."""

    def waited(*_: object) -> None:
        raise TimeoutError("waited for ever")

    before = signal.signal(signal.SIGALRM, waited)
    signal.setitimer(signal.ITIMER_REAL, 5, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_impatient")
def test_a_pipe_among_the_images_is_a_failure_and_a_link_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (4, 4), 7).save(tmp_path / "elsewhere.png")
    os.mkfifo(folder / "a.png")
    (folder / "b.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "c.png").symlink_to(tmp_path / "nowhere.png")
    (batch,) = stream(folder, batch_size=10)
    assert [Path(name).name for name in batch.names] == ["b.png"]
    assert [Path(failure.name).name for failure in batch.failures] == ["a.png", "c.png"]
    assert "is a pipe, a socket or a device" in batch.failures[0].reason
    with pytest.warns(UserWarning, match="2 of 3 images"):
        assert len(load(folder)) == 1
