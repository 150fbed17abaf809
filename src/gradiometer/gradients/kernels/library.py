"""From C source to functions in this process: find a compiler, compile once, keep the result.

The compiled file is named by everything that it depends on: source, command, compiler and processor. So a new release
or another machine with the same home folder compiles its own.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from gradiometer.files import replaced

SWITCH = "GRADIOMETER_KERNELS"
"""Environment variable; `off` means that nothing is compiled and no kernel is used."""

_REALS = {torch.float32: "float", torch.float64: "double"}
_SOURCES = ("correlation.c", "depthwise.c", "sequence.c", "winograd_image.c", "winograd_weight.c")
_HEADERS = ("vectors.h", "correlation.h", "winograd.h")

#: Options for the instructions that this processor has, in the order in which they are tried.
_TARGETS = (("-march=native",), ("-mcpu=native",), ())
_COMPILE = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-fopenmp", "-c")
#: A compilation takes some seconds; one that takes this long has failed.
_PATIENCE = 120.0


class Unavailable(Exception):
    """There are no kernels on this machine; the message says why."""


def load(dtype: torch.dtype) -> ctypes.CDLL:
    """The kernels for one type of numbers.

    Args:
        dtype: float32 or float64.

    Raises:
        Unavailable: There is no compiler, it fails, or kernels are switched off.
    """
    outcome = _attempt(_REALS[dtype])
    if isinstance(outcome, str):
        raise Unavailable(outcome)
    return outcome


def missing(dtype: torch.dtype = torch.float32) -> str | None:
    """Why there are no kernels for a type of numbers, or None where there are some.

    Args:
        dtype: float32 or float64.
    """
    outcome = _attempt(_REALS[dtype])
    return outcome if isinstance(outcome, str) else None


def fits(inputs: Tensor, errors: Tensor) -> bool:
    """Whether kernels can read tensors of this kind, and are there.

    They take float32 and float64 in main memory. Compiles them when asked for the first time.
    """
    plain = all(type(tensor) is Tensor and tensor.layout == torch.strided for tensor in (inputs, errors))
    return (
        plain
        and inputs.device.type == errors.device.type == "cpu"
        and inputs.dtype == errors.dtype
        and inputs.dtype in _REALS
        and missing(inputs.dtype) is None
    )


@functools.cache
def _attempt(real: str) -> ctypes.CDLL | str:
    """The kernels, or why there are none: one attempt is enough."""
    try:
        return _loaded(real)
    except (Unavailable, OSError) as error:
        return str(error)
    except ValueError as error:
        return f"CC={os.environ.get('CC')!r} cannot be read as a command: {error}"


def _loaded(real: str) -> ctypes.CDLL:
    if os.environ.get(SWITCH, "").lower() == "off":
        raise Unavailable(f"switched off by {SWITCH}=off")
    compiler = _compiler()
    sources = {name: resources.files(__package__).joinpath(name).read_bytes() for name in (*_HEADERS, *_SOURCES)}
    path = _folder() / f"kernels-{real}-{_key(sources, compiler)}.so"
    try:
        return _opened(path)
    except OSError:  # not there yet, or damaged
        _compile(sources, compiler, real, path)
        return _opened(path)


def _opened(path: Path) -> ctypes.CDLL:
    # Functions of OpenMP are left open in it: they are found among those that torch has loaded, so that both share one
    # set of threads.
    kernels = ctypes.CDLL(str(path))
    for number in (kernels.lanes, kernels.side, kernels.correlate_tiles_room):
        number.restype = ctypes.c_int64
    for size in (kernels.image_gradient_room, kernels.image_gradient_weights):
        size.argtypes, size.restype = (ctypes.c_int64, ctypes.c_int64), ctypes.c_int64
    for work in (
        kernels.correlate,
        kernels.correlate_tiles,
        kernels.depthwise,
        kernels.image_gradient,
        kernels.sequence,
    ):
        work.restype = None
    return kernels


def _compiler() -> list[str]:
    """The command of the C compiler: that of the variable CC, or the first that there is."""
    given = shlex.split(os.environ.get("CC", ""), posix=os.name != "nt")
    for command in [given] if given else [["cc"], ["gcc"], ["clang"]]:
        found = shutil.which(command[0])
        if found is not None:
            return [found, *command[1:]]
    raise Unavailable(f"there is no C compiler {given[0]!r}" if given else "there is no C compiler (cc, gcc, clang)")


def _key(sources: Mapping[str, bytes], compiler: list[str]) -> str:
    """What a compiled file depends on, as a short name."""
    binary = Path(compiler[0]).stat()
    parts = [*compiler, str(binary.st_size), str(int(binary.st_mtime)), *_COMPILE, _processor(), sys.platform]
    return hashlib.sha256(b"".join(sources.values()) + "\n".join(parts).encode()).hexdigest()[:20]


def _processor() -> str:
    """What instructions the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = ("model name", "flags", "Features", "CPU part", "isa")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(told)}))


def _folder() -> Path:
    """Where compiled files are kept: a folder that belongs to the user, or one for this process alone."""
    base = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache" if _has_home() else "")
    try:
        folder = Path(base) / "gradiometer" / "kernels" if base else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK):
                return folder
    except OSError:
        pass
    return _own_folder()


def _has_home() -> bool:
    try:
        return Path.home().is_dir()
    except RuntimeError:
        return False


@functools.cache
def _own_folder() -> Path:
    """A fresh folder that nobody else can write to; it goes when the process ends."""
    holder = tempfile.TemporaryDirectory(prefix="gradiometer-kernels-", ignore_cleanup_errors=True)
    _kept.append(holder)
    return Path(holder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _compile(sources: Mapping[str, bytes], compiler: list[str], real: str, path: Path) -> None:
    """Compile and link next to the final place, and move the result there at once."""
    said = ""
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=path.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for each, text in sources.items():
            (folder / each).write_bytes(text)
        texts = [str(folder / each) for each in _SOURCES]
        objects = [f"{text}.o" for text in texts]
        linked = folder / "linked.so"
        for target in _TARGETS:
            # Linked without -fopenmp, which would bring a second set of threads along.
            steps = (
                [*compiler, *_COMPILE, *target, f"-DREAL={real}", text, "-o", compiled]
                for text, compiled in zip(texts, objects, strict=True)
            )
            with ThreadPoolExecutor() as pool:
                said = next(filter(None, pool.map(_run, steps)), "")
            said = said or _run([*compiler, "-shared", *objects, "-o", str(linked)])
            if not said:
                # On the disk before it has its name: half of a library would end every process that opens it.
                with replaced(path) as new:
                    linked.replace(new)
                return
    raise Unavailable(f"{compiler[0]} cannot compile the kernels: {said}")


def _run(command: list[str]) -> str:
    """Run a command; what it complains of, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
