"""What stands beside every number: machine, versions, date, and how busy the machine was."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import gradiometer


def environment(packages: Iterable[str]) -> dict[str, Any]:
    """Describe where and when figures are taken.

    Args:
        packages: Distributions whose versions matter.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": _memory(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "source": _source(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in sorted(set(packages))}},
    }


def _source() -> str:
    """The beginning of a hash of the package's source: a version says too little while it is being worked on."""
    folder = Path(gradiometer.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as Linux knows it, else as Python does."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        entries = (line.partition(":") for line in information.read_text(encoding="utf-8").splitlines())
        names = {key.strip(): value.strip() for key, _, value in entries}
        if "model name" in names:
            family = ", ".join(f"{key} {names[key]}" for key in ("cpu family", "model") if key in names)
            return f"{names['model name']} ({family})" if family else names["model name"]
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
