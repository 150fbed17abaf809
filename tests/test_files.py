"""A file is replaced as a whole or not at all, also by several writers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gradiometer.errors import ArtefactError, InputError
from gradiometer.files import locked, replaced, write_bytes, write_text
from gradiometer.severity import SeverityTable


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replaced(path) as new:
        new.write_text("half")
        assert path.read_text() == "old"
        new.write_text("complete")
    assert path.read_text() == "complete"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def interrupted() -> None:
        with replaced(path) as new:
            new.write_text("half")
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "table.csv", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((os.fstat(descriptor).st_size, path.exists())))
    with replaced(path) as new:
        new.write_text("complete")
    assert seen == [(8, False)]


def test_several_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    names = tuple(f"{number}.png" for number in range(50))
    tables = [SeverityTable(names, np.full(50, float(score)), np.zeros(50)) for score in range(120)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda table: table.write(path), tables))
    assert len(SeverityTable.read(path)) == 50
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(BlockingIOError), locked(path):
            pass
        assert path.exists()
    assert not path.exists()
    with locked(path):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = f"""
import os, signal
from pathlib import Path
from gradiometer.files import locked
with locked(Path({str(path)!r})):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert said.stdout == "held\n"
    assert path.exists()
    with locked(path):
        pass
    assert not path.exists()


def test_a_lock_that_was_removed_by_its_holder_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def take(_: int) -> int:
        try:
            with locked(path):
                inside.append(1)
                alone = len(inside) == 1
                inside.pop()
                assert alone
                return 1
        except BlockingIOError:
            return 0

    inside: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(500))) > 0
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="there are no such permissions here")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_is_as_readable_as_one_that_python_opens(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "opened").open("w").close()
        with replaced(tmp_path / "replaced") as new:
            save_file({"a": np.zeros(3)}, new)  # makes files for their owner alone
        assert (tmp_path / "replaced").stat().st_mode == (tmp_path / "opened").stat().st_mode
        (tmp_path / "replaced").chmod(0o640)
        with replaced(tmp_path / "replaced") as new:
            save_file({"a": np.zeros(3)}, new)
        assert (tmp_path / "replaced").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["opened", "replaced"]


def test_what_cannot_be_written_is_told_with_what_became_of_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"nowhere/note.txt \(No such file or directory\); nothing was written"):
        write_text(tmp_path / "nowhere" / "note.txt", "text")
    with pytest.raises(InputError, match=r"could not write 1,200 bytes to .*nowhere/pixels \(No such file"):
        write_bytes(tmp_path / "nowhere" / "pixels", bytes(1200), InputError)
    with pytest.raises(ArtefactError, match=r"name too long\); nothing was written"):
        write_text(tmp_path / ("n" * 300), "text")


def test_a_full_disk_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    write_text(path, "Größe")
    assert path.read_text(encoding="utf-8") == "Größe"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match=r"page.html \(No space left on device\); the file that was there is unt"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "Größe"
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
