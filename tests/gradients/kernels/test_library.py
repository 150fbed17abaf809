"""Compiling kernels: found, kept, used again, and done without where that is not possible."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gradiometer.gradients import Gradiometer, kernels
from gradiometer.gradients.kernels import SWITCH, library

needs_a_compiler = pytest.mark.skipif(kernels.missing() is not None, reason=f"no kernels here: {kernels.missing()}")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache folder, and no memory of earlier attempts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library._attempt.cache_clear()
    yield
    library._attempt.cache_clear()


def compiled(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@needs_a_compiler
def test_compiled_once_and_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.missing() is None
    (name,) = compiled(tmp_path / "cache")
    assert name.startswith("kernels-float-")
    library._attempt.cache_clear()
    monkeypatch.setattr(library, "_compile", pytest.fail)
    assert kernels.missing() is None


@needs_a_compiler
def test_each_type_has_its_own(tmp_path: Path) -> None:
    assert kernels.missing(torch.float32) is kernels.missing(torch.float64) is None
    assert len(compiled(tmp_path / "cache")) == 2


def test_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "off")
    assert kernels.missing() == "switched off by GRADIOMETER_KERNELS=off"
    assert compiled(tmp_path) == []


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    assert kernels.missing() == "there is no C compiler (cc, gcc, clang)"


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler --fast")
    assert kernels.missing() == "there is no C compiler 'no-such-compiler'"


def test_a_compiler_that_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc '")
    assert kernels.missing() == """CC="gcc '" cannot be read as a command: No closing quotation"""


@pytest.mark.skipif(os.name != "posix", reason="the compiler of this test is a shell script")
def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho 'out of paper' >&2\nexit 3\n", encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(script))
    assert kernels.missing() == f"{script} cannot compile the kernels: out of paper"
    assert compiled(tmp_path / "cache") == []


@needs_a_compiler
def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_compile", lambda *given: given[-1].write_bytes(b"not a library"))
        reason = kernels.missing()
    (name,) = compiled(tmp_path / "cache")
    assert reason is not None
    assert name in reason
    library._attempt.cache_clear()
    assert kernels.missing() is None


@needs_a_compiler
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    assert kernels.missing() is None
    assert (tmp_path / "cache").is_file()


def test_readings_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers by other forms, and a plan that says so."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 5)).eval()
    images = torch.rand(6, 3, 8, 8)
    usual = Gradiometer(network).squared_norms(images)
    monkeypatch.setenv(SWITCH, "off")
    library._attempt.cache_clear()
    meter = Gradiometer(network)
    torch.testing.assert_close(meter.squared_norms(images).values, usual.values, rtol=1e-5, atol=0)
    assert "kernel" not in {line.path for line in meter.plan().lines}


@needs_a_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of loaded libraries of Linux")
def test_no_second_set_of_threads() -> None:
    """The kernels use the threads of torch: no other OpenMP library is loaded for them."""
    script = (
        "import re, pathlib, torch\n"
        "def loaded(): return set(re.findall(r'\\S*(?:gomp|omp5)\\S*', pathlib.Path('/proc/self/maps').read_text()))\n"
        "before = loaded()\n"
        "from gradiometer.gradients import kernels\n"
        "kernels.rows(torch.rand(4, 3, 8, 8), torch.rand(4, 5, 8, 8), None,"
        " kernels.Window((3, 3), (1, 1), (1, 1), (1, 1), 1))\n"
        "assert kernels.missing() is None and loaded() == before, loaded() - before\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
