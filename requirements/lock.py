"""Pin what the project needs to the versions of the environment that runs this script.

    $ python requirements/lock.py        # writes requirements/lock.txt and requirements/peers.txt

The closure of the requirements in pyproject.toml is taken from the metadata of the installed packages, once for every
operating system, so that packages which only one of them needs (the CUDA libraries of PyTorch on Linux) carry a marker.
The files hold names, versions and markers only: where packages come from is the business of each machine.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent
BASE_EXTRAS = ("attacks", "report", "parquet", "serve", "timm", "dev", "docs")
FURTHER_EXTRAS = ("hf", "peers", "tensorboard")
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "win32": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}


def wanted(extras: Iterable[str]) -> list[Requirement]:
    """The requirements of the project itself with some extras, as pyproject.toml states them."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def closure(requirements: Iterable[Requirement], system: Mapping[str, str]) -> dict[str, str]:
    """Map every package that the requirements lead to on one operating system to its installed version.

    A package that is needed there but not installed here cannot be pinned and is left out.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({**system, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            print(f"not installed, so not pinned: {requirement} ({system['sys_platform']})", file=sys.stderr)
            continue
        versions[name] = found.version
        for wanted_extra in {"", *requirement.extras}:
            if (name, wanted_extra) not in seen:
                seen.add((name, wanted_extra))
                waiting.extend((Requirement(line), wanted_extra) for line in found.requires or ())
    return versions


def pins(extras: Iterable[str]) -> dict[str, str]:
    """Map every package to its line of the lock file.

    A package that the project asks for on some versions of Python only keeps that condition.
    """
    conditions = {
        canonicalize_name(requirement.name): str(requirement.marker)
        for requirement in wanted(extras)
        if "python_version" in str(requirement.marker)
    }
    by_system = {name: closure(wanted(extras), system) for name, system in SYSTEMS.items()}
    lines = {}
    for name, version in sorted({**by_system["win32"], **by_system["darwin"], **by_system["linux"]}.items()):
        systems = [system for system in SYSTEMS if name in by_system[system]]
        everywhere = len(systems) == len(SYSTEMS)
        markers = [] if everywhere else [" or ".join(f'sys_platform == "{system}"' for system in systems)]
        if name in conditions:
            markers.append(conditions[name])
        marker = " and ".join(f"({each})" if len(markers) > 1 else each for each in markers)
        lines[name] = f"{name}=={version}" + (f" ; {marker}" if marker else "")
    return lines


def main() -> None:
    """Write both files."""
    base = pins(BASE_EXTRAS)
    further = {name: line for name, line in pins((*BASE_EXTRAS, *FURTHER_EXTRAS)).items() if name not in base}
    files = {
        "lock.txt": (f"gradiometer[{','.join(BASE_EXTRAS)}]", base),
        "peers.txt": (f"gradiometer[{','.join(FURTHER_EXTRAS)}], on top of lock.txt", further),
    }
    for file, (title, lines) in files.items():
        header = f"# What {title} needs, pinned. Written by `make lock`.\n"
        (FOLDER / file).write_text(header + "\n".join(lines.values()) + "\n", encoding="utf-8")
        print(f"{file}: {len(lines)} packages")


if __name__ == "__main__":
    main()
