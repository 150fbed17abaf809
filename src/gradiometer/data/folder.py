"""A folder of images: flat, or one sub-folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from gradiometer.data.rows import Annotations, Row
from gradiometer.errors import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files with these endings, in either case, are taken for images; all others are passed over."""

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class FolderRows:
    """The images below a folder, folder by folder and by name, so that memory holds one folder's listing at a time.

    Attributes:
        folder: Where to look, at any depth. Hidden files and folders are passed over.
        classes: Sub-folders in order when every image lies in one, else empty.
    """

    folder: Path
    classes: tuple[str, ...]

    def count(self) -> int:
        """The number of files that are taken for images."""
        return sum(1 for _ in self._files())

    def read(self, start: int = 0) -> Iterator[Row]:
        """The files from number `start` on."""
        return (Row(printable(path), path) for path in islice(self._files(), start, None))

    def annotations(self) -> Annotations:
        """The sub-folder of each image as its label."""
        if not self.classes:
            return Annotations()
        number = {name: label for label, name in enumerate(self.classes)}
        labels = [number[path.relative_to(self.folder).parts[0]] for path in self._files()]
        return Annotations(np.array(labels, dtype=np.int64), self.classes)

    def _files(self) -> Iterator[Path]:
        return image_files(self.folder)


def open_folder(folder: Path, split: str | None) -> FolderRows:
    """The images below a folder.

    Args:
        folder: An existing folder.
        split: A sub-folder that holds one part of the data set, or None when the folder is not divided.

    Raises:
        InputError: If the split is not there, must be chosen, or there are no images.
    """
    below = _folders(folder)
    if split is not None:
        if split not in below:
            raise InputError(
                f"folder {folder} has no sub-folder {split!r} for the split; "
                f"there {'are ' + ', '.join(below) if below else 'is none'}"
            )
        folder = folder / split
        below = _folders(folder)
    elif below and all(name.lower() in SPLITS for name in below) and not _images(folder):
        raise InputError(f"folder {folder} is divided into {', '.join(below)}; choose one with split={below[0]!r}")
    rows = FolderRows(folder, () if _images(folder) else tuple(below))
    if next(rows.read(), None) is None:
        others = sum(len(names) for _, _, names in os.walk(folder))
        raise InputError(
            f"folder {folder} holds no images, only {others} other files; "
            f"images are files that end in {', '.join(SUFFIXES)}"
        )
    return rows


def image_files(folder: Path) -> Iterator[Path]:
    """The files below a folder that are taken for images, folder by folder and by name."""
    return _walk(folder, frozenset())


def printable(path: Path) -> str:
    """A name that any output format can hold, also where the file system's bytes are not text."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Images of a folder, then those of its sub-folders. `above` keeps links from leading in circles."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for name in _images(folder):
        yield folder / name
    for name in _folders(folder):
        yield from _walk(folder / name, above | {here})


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and not _is_folder(entry)
        )


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith((".", "__")))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link that leads to itself, or to where nobody may look, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
