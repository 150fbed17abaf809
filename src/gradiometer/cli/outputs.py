"""What a command writes is none of the files that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from gradiometer.cli import sources
from gradiometer.cli.command import flag_of
from gradiometer.errors import InputError

_OUTPUTS = ("out", "page")
"""Settings that name what a command writes."""

_TEXTS = (str, str | None, tuple[str, ...])
"""Kinds of settings that may name a file; a choice of words does not."""


def check(options: Any) -> None:
    """Refuse a file to write that another setting names as a file to read.

    Folders to write into are left alone: a training or a benchmark puts its own files beside what is there.

    Args:
        options: Settings of a command, or None.

    Raises:
        InputError: If one is, naming both.
    """
    entries = () if options is None else fields(options)
    kinds = {} if options is None else get_type_hints(type(options))
    root = getattr(options, "root", None) or getattr(options, "data_root", None)
    for output in (entry for entry in entries if entry.name in _OUTPUTS):
        out = getattr(options, output.name)
        for given in entries:
            if out is None or given.name in _OUTPUTS or given.metadata["in_place"] or kinds[given.name] not in _TEXTS:
                continue
            value = getattr(options, given.name)
            for text in value if isinstance(value, tuple) else (value,):
                if text is not None:
                    check_file(out, text, root, f"{flag_of(output)} {out}", f"{flag_of(given)} {text}")


def check_file(out: str, text: str, root: str | None, writes: str, reads: str) -> None:
    """Refuse a file to write that is one of those that a text stands for.

    Args:
        out: The file to write.
        text: What names a source of images, a model, or any other file.
        root: Folder of data sets that are given by name.
        writes: What the message calls the file to write.
        reads: What it calls the other one.

    Raises:
        InputError: If it is.
    """
    path = Path(out)
    if path.is_file() and any(_is(path, other) for other in _places(text, root)):
        raise InputError(f"{writes} would replace a file of {reads}; write to another file")


def _places(text: str, root: str | None) -> Iterator[Path]:
    """Where a text may lead to: a path, a name in the root, code, or weights behind it."""
    named = sources.parse(text).source
    code, _, weights = text.partition("@")
    yield from map(Path, (text, named, code.rpartition(":")[0], weights))
    if root is not None:
        yield from (Path(root, name) for name in (named, f"{named}.npz", f"{named}.npy"))


def _is(path: Path, other: Path) -> bool:
    """Whether a file is the other one, or one of those for which the other one, a folder, is named."""
    try:
        if not other.name or not other.exists():
            return False
    except OSError:  # too long for a path, so it is none
        return False
    return _of_folder(path, other) if other.is_dir() else path.samefile(other)


def _of_folder(path: Path, folder: Path) -> bool:
    """Whether a file is an image below a folder, or what a training wrote into it."""
    if folder.resolve() not in path.resolve().parents:
        return False
    from gradiometer import anomaly, severity
    from gradiometer.data.folder import SUFFIXES
    from gradiometer.models import stored
    from gradiometer.severity import contrastive

    trained = {stored.WEIGHTS, stored.RECORD, anomaly.ARTEFACT, severity.ARTEFACT, contrastive.ARTEFACT}
    return path.suffix.lower() in SUFFIXES or (path.name in trained and path.parent.samefile(folder))
