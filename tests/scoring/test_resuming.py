"""Interruption at any moment: what was written is valid, and the same call gives the same file."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradiometer import scoring
from gradiometer.detectors import MSP
from gradiometer.errors import ArtefactError, InputError, ModelError

SUFFIXES = [".csv", ".jsonl", ".parquet"]


@contextmanager
def failing(detector: MSP, call: int, error: type[BaseException]) -> Iterator[None]:
    """Let one call of judge fail, counted from one."""
    judge, calls = detector.judge, iter(range(1, 1000))

    def broken(x: Any) -> Any:
        if next(calls) == call:
            raise error("stopped")
        return judge(x)

    detector.judge = broken  # type: ignore[method-assign]
    try:
        yield
    finally:
        del detector.judge  # type: ignore[method-assign]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes of one file: the kernel refuses the write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def complete(detector: MSP, folder: Path, suffix: str) -> bytes:
    """The file of a run without interruption."""
    out = folder.parent / f"reference{suffix}"
    scoring.score(detector, folder, out)
    return out.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("call", [1, 3, 6])
def test_interrupted_and_continued_is_the_same_file(
    suffix: str, call: int, detector: MSP, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"scores{suffix}"
    with failing(detector, call, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    assert not out.exists()
    summary = scoring.score(detector, folder, out)
    # The first portion holds two broken images besides its eight.
    assert summary.resumed == (0 if call == 1 else 2 + 8 * (call - 1))
    assert summary.tally.rows == 50
    assert out.read_bytes() == complete(detector, folder, suffix)
    assert not list(tmp_path.glob("scores*.p[!a]*"))
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_interrupted_twice(suffix: str, detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"scores{suffix}"
    for _ in range(2):
        with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            scoring.score(detector, folder, out)
    assert scoring.score(detector, folder, out).resumed == 2 + 8 * 4
    assert out.read_bytes() == complete(detector, folder, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_killed_process_leaves_behind_is_cut_off(
    suffix: str, detector: MSP, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"scores{suffix}"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    with (tmp_path / f"scores{suffix}.partial").open("ab") as file:
        file.write(b"half a ro")
    scoring.score(detector, folder, out)
    assert out.read_bytes() == complete(detector, folder, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_keeps_whole_rows_and_the_same_call_continues(
    suffix: str, detector: MSP, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"scores{suffix}"
    reference = complete(detector, folder, suffix)
    said = pytest.raises(ArtefactError, match=r"cannot write .*File too large; [\d,]+ rows are safe in .*\.partial")
    with files_no_larger_than(5000 if suffix == ".parquet" else len(reference) // 2), said:
        scoring.score(detector, folder, out)
    partial = tmp_path / f"scores{suffix}.partial"
    kept = partial.read_bytes()
    if suffix == ".parquet":
        names = pa.ipc.open_stream(kept).read_all()["name"].to_pylist()
        assert 0 < len(names) < 50
    else:
        assert reference.startswith(kept)
        assert kept.endswith(b"\n")
    summary = scoring.score(detector, folder, out)
    assert 0 < summary.resumed < 50
    assert out.read_bytes() == reference


def test_no_space_is_told_with_what_is_safe(
    detector: MSP, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))

    def full(descriptor: int) -> None:
        if next(calls) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match=r"No space left on device; 18 rows are safe in .*Make room"):
        scoring.score(detector, folder, tmp_path / "scores.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl.partial").read_text().splitlines()]
    assert len(rows) == 18
    monkeypatch.undo()
    assert scoring.score(detector, folder, tmp_path / "scores.jsonl").resumed == 18


def test_no_space_while_converting_loses_nothing(
    detector: MSP, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "scores.parquet"
    monkeypatch.setattr(pa.parquet, "ParquetWriter", Full)
    with pytest.raises(ArtefactError, match="50 rows are safe"):
        scoring.score(detector, folder, out)
    monkeypatch.undo()
    with failing(detector, 1, AssertionError):  # nothing is left to score
        assert scoring.score(detector, folder, out).resumed == 50
    assert out.read_bytes() == complete(detector, folder, ".parquet")


def test_a_model_that_fails_later_keeps_the_rows_before(detector: MSP, folder: Path, tmp_path: Path) -> None:
    with failing(detector, 4, RuntimeError), pytest.raises(RuntimeError, match="stopped"):
        scoring.score(detector, folder, tmp_path / "scores.csv")
    assert scoring.score(detector, folder, tmp_path / "scores.csv").resumed == 26


def test_a_model_that_refuses_everything_is_an_error(detector: MSP, folder: Path, tmp_path: Path) -> None:
    detector.model.train()
    with pytest.raises(ModelError, match="train mode"):
        scoring.score(detector, folder, tmp_path / "scores.csv")
    detector.model.eval()
    assert scoring.score(detector, folder, tmp_path / "scores.csv").resumed == 0


def test_other_settings_do_not_continue(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    with pytest.raises(InputError, match=r"size was None, now '8'.*begin again with restart"):
        scoring.score(detector, folder, out, size=8)
    assert detector.calibration is not None
    detector.calibration = detector.calibration.at(0.2)
    with pytest.raises(InputError, match=r"false-alarm rate was 0\.1, now 0\.2"):
        scoring.score(detector, folder, out)
    assert scoring.score(detector, folder, out, restart=True).resumed == 0


def test_a_source_that_changed_does_not_continue(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    Image.new("L", (8, 8)).save(folder / "a" / "000a.png")
    with pytest.raises(InputError, match=r"row 18 .*016\.png .*017\.png: the source changed"):
        scoring.score(detector, folder, out)
    assert scoring.score(detector, folder, out, restart=True).tally.rows == 51


def test_files_that_were_tampered_with(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    os.truncate(tmp_path / "scores.csv.partial", 10)
    with pytest.raises(ArtefactError, match="has 10 bytes where"):
        scoring.score(detector, folder, out)
    (tmp_path / "scores.csv.progress").write_text("{")
    with pytest.raises(ArtefactError, match="begin again with restart"):
        scoring.score(detector, folder, out)
    assert scoring.score(detector, folder, out, restart=True).tally.rows == 50


def test_a_source_that_was_replaced_is_not_continued(detector: MSP, tmp_path: Path) -> None:
    source, out = tmp_path / "a.npz", tmp_path / "a.csv"
    random = np.random.default_rng(0)
    np.savez(source, images=random.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    with failing(detector, 2, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, source, out)
    np.savez(source, images=random.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    os.utime(source, ns=(1, 1))
    with pytest.raises(InputError, match=r"was replaced since .* begin again with restart"):
        scoring.score(detector, source, out)


@pytest.mark.parametrize("name", ["a/002.png", "a/003.png"])
def test_images_that_were_replaced_are_not_continued(name: str, detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    with failing(detector, 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)  # nothing has changed
    Image.new("L", (8, 8), 77).save(folder / name)
    with pytest.raises(InputError, match=r"source of the 18 rows in .* was replaced .* begin again with restart"):
        scoring.score(detector, folder, out)
    assert scoring.score(detector, folder, out, restart=True).tally.rows == 50


def test_images_that_are_still_to_come_may_change(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 3, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out)
    Image.new("L", (8, 8), 77).save(folder / "b/030.png")
    Image.new("L", (8, 8), 77).save(folder / "b/new.png")
    summary = scoring.score(detector, folder, out)
    assert (summary.resumed, summary.tally.rows) == (18, 51)


def test_a_data_set_that_was_replaced_in_its_root_is_not_continued(detector: MSP, tmp_path: Path) -> None:
    out = tmp_path / "a.csv"
    for shade in (0, 1):
        np.savez(tmp_path / "scans.npz", images=np.full((40, 8, 8), shade, np.uint8))
        os.utime(tmp_path / "scans.npz", ns=(shade, shade))
        error, words = (InputError, "was replaced") if shade else (KeyboardInterrupt, "stopped")
        with failing(detector, 2, KeyboardInterrupt), pytest.raises(error, match=words):
            scoring.score(detector, "scans", out, root=tmp_path)


def test_two_runs_do_not_write_one_file(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    judge, refused = detector.judge, []

    def meanwhile(x: Any) -> Any:
        with pytest.raises(InputError, match=f"another run is writing {out}; wait") as said:
            scoring.score(detector, folder, out, restart=True)
        refused.append(said)
        return judge(x)

    detector.judge = meanwhile  # type: ignore[method-assign]
    summary = scoring.score(detector, folder, out)
    del detector.judge  # type: ignore[method-assign]
    assert len(refused) == 6
    assert summary.tally.rows == 50
    assert out.read_bytes() == complete(detector, folder, ".csv")
    assert not list(tmp_path.glob(".*"))


def test_a_run_without_a_row_does_not_stand_in_the_way_of_other_settings(detector: MSP, tmp_path: Path) -> None:
    source, out = tmp_path / "a.npz", tmp_path / "a.csv"
    np.savez(source, images=np.zeros((20, 8, 8), np.uint8))
    with failing(detector, 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, source, out)
    np.savez(tmp_path / "b.npz", images=np.ones((20, 8, 8), np.uint8))
    scoring.score(detector, tmp_path / "b.npz", out)
    assert len(out.read_text().splitlines()) == 1 + 20


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_part_of_a_collection_is_continued(suffix: str, detector: MSP, folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / f"part{suffix}"
    scoring.score(detector, folder, whole, shard=(2, 2))
    out = tmp_path / f"scores{suffix}"
    with failing(detector, 2, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out, shard=(2, 2))
    with pytest.raises(InputError, match="shard"):
        scoring.score(detector, folder, out, shard=(1, 2))
    summary = scoring.score(detector, folder, out, shard=(2, 2))
    assert (summary.resumed, summary.tally.rows) == (8, 25)
    assert out.read_bytes() == whole.read_bytes()


def test_images_of_a_part_that_were_replaced_are_noticed(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with failing(detector, 2, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        scoring.score(detector, folder, out, shard=(2, 2))
    os.utime(folder / "a" / "000.png", (1, 1))  # of the other part
    replaced = folder / "b" / "026.png"
    before = replaced.stat()
    os.utime(replaced, (1, 1))
    with pytest.raises(InputError, match="was replaced since the run was interrupted"):
        scoring.score(detector, folder, out, shard=(2, 2))
    os.utime(replaced, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scoring.score(detector, folder, out, shard=(2, 2)).resumed == 8


def test_a_device_that_fails_ends_the_run_and_not_the_images(folder: Path, tmp_path: Path) -> None:
    class Failing(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > fine:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().forward(x)

    torch.manual_seed(0)
    fine = 1000
    head = Failing(64, 5)
    detector = MSP(nn.Sequential(nn.Flatten(), head).eval(), batch_size=8).calibrate(torch.rand(50, 1, 8, 8), 0.1)
    out = tmp_path / "scores.csv"
    fine = head.calls + 2
    with pytest.raises(RuntimeError, match="CUDA error"):
        scoring.score(detector, folder, out)
    assert not out.exists()
    fine = 1000
    summary = scoring.score(detector, folder, out)
    assert (summary.resumed, summary.tally.rows, summary.tally.failures) == (18, 50, 3)


def test_a_folder_that_grows_meanwhile_loses_no_image(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    grown = []

    def grow(done: int, _: int) -> None:
        if not grown:
            grown.append(done)
            for number in range(5):  # before the images of the second folder that were there from the start
                Image.fromarray(np.full((8, 8), 40 + number, np.uint8)).save(folder / "b" / f"000{number}.png")

    with pytest.raises(InputError, match=r"had 50 rows .* has more now, .* make the same call again"):
        scoring.score(detector, folder, out, progress=grow)
    assert not out.exists()
    assert scoring.score(detector, folder, out).tally.rows == 55
    named = [line.rsplit("/", 1)[-1].split(",")[0] for line in out.read_text().splitlines()[1:]]
    assert sum(name.startswith("000") and len(name) == len("0000.png") for name in named) == 5
    assert len(set(named)) == 55


def test_a_result_that_cannot_be_delivered_costs_no_score(detector: MSP, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"

    def full(_: Path) -> None:
        raise ArtefactError("no space left")

    with pytest.raises(ArtefactError):
        scoring.score(detector, folder, out, deliver=full)
    assert not out.exists()
    seen: list[int] = []
    summary = scoring.score(detector, folder, out, deliver=lambda file: seen.append(len(file.read_text().splitlines())))
    assert summary.resumed == 50
    assert seen == [50]


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_a_folder_whose_name_is_no_text_is_scored(detector: MSP, folder: Path, tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(folder) + b"\xff"))
    folder.rename(strange)
    assert scoring.score(detector, strange, tmp_path / "scores.csv").tally.rows == 50


def test_a_link_to_itself_is_one_row_and_not_the_end(detector: MSP, folder: Path, tmp_path: Path) -> None:
    (folder / "b" / "loop.png").symlink_to(folder / "b" / "loop.png")
    (folder / "loop").symlink_to(folder / "loop")
    summary = scoring.score(detector, folder, tmp_path / "scores.csv")
    assert summary.tally.rows == 51
    assert "loop.png" in (tmp_path / "scores.csv").read_text()
