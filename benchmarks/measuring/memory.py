"""Peak memory of this process, and of another one that runs a single contender."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 2**20
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """Memory of a process around some calls, in bytes.

    Attributes:
        baseline: Resident memory before the calls: interpreter, libraries, network, inputs, and whatever the contender
            prepares once.
        peak: Largest resident memory during the calls.
        method: Where the peak comes from.
    """

    baseline: int
    peak: int
    method: str

    @property
    def rise(self) -> int:
        """What the calls took on top of the baseline."""
        return max(0, self.peak - self.baseline)

    def to_dict(self) -> dict[str, Any]:
        """Its entries and the rise."""
        return {**asdict(self), "rise": self.rise}


def measure(call: Callable[[], object], calls: int) -> Memory:
    """Peak memory of this process over some calls, the first included.

    The peak is Linux' high-water mark of this process' own memory, set back before the first call. `ru_maxrss` would
    not do: a process inherits it from the one that started it. It is the last resort on other systems.
    """
    _give_back()
    baseline, exact = _resident(), _set_peak_back()
    for _ in range(calls):
        call()
    peak = _entry("VmHWM")
    if peak is None:
        return Memory(baseline, max(_largest(), baseline), "ru_maxrss of a process of its own")
    return Memory(baseline, peak, "VmHWM, set back before the calls" if exact else "VmHWM")


def of_another_process(command: Sequence[str], timeout: float) -> tuple[list[dict[str, Any]], str]:
    """Run a command that prints one JSON object a line, and survive its end by the system.

    Returns:
        The objects that it printed before its end, and why it ended too early; empty if it did not.
    """
    try:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as expired:
        printed = (expired.stdout or b"").decode()
        return _objects(printed), f"took more than {timeout:g} s in a process of its own"
    found = _objects(done.stdout)
    if done.returncode < 0:
        return found, f"its process was ended by signal {-done.returncode}, most likely out of memory"
    if done.returncode != 0:
        return found, f"its process failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}"
    return found, ""


def _objects(printed: str) -> list[dict[str, Any]]:
    """The lines that are objects, without one that was cut short."""
    lines = [line for line in printed.splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in lines]


def keep_within(share: float) -> None:
    """Let this process fail when it asks for more than a share of the memory that is free now, where that is possible.

    Else the system would end some process for want of memory, and not always the one that asked.
    """
    free = _free()
    if free is None or not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(share * free), hard))


def _free() -> int | None:
    """Bytes that processes can still have, where the system says so."""
    path = Path("/proc/meminfo")
    if not path.is_file():
        return None
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _entry(name: str) -> int | None:
    """An entry of the process' status in bytes, where the system has one."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _resident() -> int:
    return _entry("VmRSS") or _largest()


def _largest() -> int:
    try:
        import resource
    except ImportError:  # there is none on Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _set_peak_back() -> bool:
    """Set the high-water mark to what is resident now; whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Return what is free to the system, so that the baseline holds only what is in use."""
    gc.collect()
    if os.name == "posix" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
