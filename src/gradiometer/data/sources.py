"""Finding a source of images by path or name, and loading it into memory."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gradiometer import given
from gradiometer.data.archive import open_archive
from gradiometer.data.catalogue import TORCHVISION, open_digits, open_torchvision
from gradiometer.data.collections import COLLECTIONS, open_collection
from gradiometer.data.cure import is_cure, open_cure
from gradiometer.data.decode import CHANNELS, Form, SizeMismatchError, form_of
from gradiometer.data.folder import open_folder
from gradiometer.data.images import Failure, Images
from gradiometer.data.levels import corruptions_in, open_levels
from gradiometer.data.parquet import open_parquet
from gradiometer.data.rows import Rows, some_rows
from gradiometer.errors import InputError

Source = str | os.PathLike[str]
Size = int | tuple[int, int]


def open_rows(source: Source, *, split: str | None, root: Source | None, download: bool = False) -> Rows:
    """The rows of a source, not yet decoded.

    Args:
        source: As for `load`.
        split: As for `load`.
        root: As for `load`.
        download: As for `load`.

    Raises:
        InputError: If there is no such source, or it holds no images.
        DependencyError: If the source needs a package that is not installed.
    """
    base = None if root is None else Path(root)
    if source == "digits":
        return open_digits(split)
    path = Path(source)
    if path.is_dir():
        return _open_directory(path, split)
    for suffix, opener in ((".npz", open_archive), (".parquet", open_parquet), (".npy", open_levels)):
        if path.suffix.lower() != suffix:
            continue
        if base is not None and not path.is_file() and (base / path).is_file():
            path = base / path
        if not path.is_file():
            raise InputError(f"there is no file {path}; check the path")
        return opener(path, split)
    if base is not None and (base / f"{source}.npz").is_file():
        return open_archive(base / f"{source}.npz", split)
    if base is not None and (base / f"{source}.npy").is_file():
        return open_levels(base / f"{source}.npy", split)
    if source in TORCHVISION:
        return open_torchvision(str(source), split, base, download)
    if source in COLLECTIONS:
        return open_collection(str(source), split, base, download)
    if base is not None and str(source) and (base / path).is_dir():
        return _open_directory(base / path, split)
    raise InputError(_unknown(str(source), base))


def load(
    source: Source,
    *,
    split: str | None = None,
    root: Source | None = None,
    size: Size | None = None,
    channels: int | None = None,
    limit: int | None = None,
    download: bool = False,
) -> Images:
    """Load images into memory.

    Args:
        source: One of
            * `"digits"`, the handwritten digits that come with scikit-learn,
            * a folder of images, flat or with one sub-folder for each class; if the files are named like those of
              CURE-TSR (`01_04_00_00_0001.bmp`), labels and base images are read from the names, and `split` may name a
              challenge such as `haze_3`,
            * an .npz archive in the layout of MedMNIST (`train_images` uint8 (N, H, W) or (N, H, W, 3),
              `train_labels` (N,) or (N, 1), `test_images`, ...; `class_names` and `train_groups` are understood),
            * a .parquet table with encoded images in the column `image`, optionally with `label`,
            * a .npy file of CIFAR-10-C, or of the same layout (uint8 (5 N, H, W, 3), level by level, with `labels.npy`
              beside it); `split` is `level1` to `level5`,
            * a name such as `"cifar10"`, when `root` holds `cifar10.npz`, or such as `"CIFAR-10-C/fog"`, when it holds
              `CIFAR-10-C/fog.npy`, or of a folder in `root`,
            * a torchvision name such as `"CIFAR10"` or `"SVHN"`, in the folder `root`,
            * a data set that is published as a challenge, such as `"LSUNResize"`, unpacked in the folder `root`.
        split: Which part of the source (`train`, `val`, `test`); may be left out when there is only one.
        root: Folder in which named data sets lie.
        size: Height and width in pixels, one number for a square; images of another size are resized by `BICUBIC`.
            Without it all images must have the same size.
        channels: 1 for grey, 3 for colour. Without it, those of the first image.
        limit: At most so many images: a random choice that is the same each time, in the order of the source, so
            that a source that is sorted by class still gives all classes.
        download: Allow torchvision or pytorch-ood to fetch a data set that is not in `root`.

    Returns:
        The images that can be read. The others are in `.failures`, and a warning says how many. Another warning says
        when 16-bit images use little of their range, of which little is left in 8 bits.

    Raises:
        InputError: If there is no such source, it holds no readable image, or size, type, range or labels are wrong.
        DependencyError: If the source needs a package that is not installed.

    Example:
        >>> digits = load("digits", limit=100)
        >>> digits.images.shape, digits.images.dtype, digits.classes[:3]
        (torch.Size([100, 1, 8, 8]), torch.uint8, ('0', '1', '2'))
    """
    if limit is not None:
        given.whole("limit", limit)
    extent = check_form(size, channels)
    rows = open_rows(source, split=split, root=root, download=download)
    return collect(rows, str(source), extent, channels, limit)


def collect(
    rows: Rows, source: str, size: tuple[int, int] | None = None, channels: int | None = None, limit: int | None = None
) -> Images:
    """Decode the rows of a source into memory.

    Args:
        rows: The rows.
        source: What messages call them.
        size: As for `load`.
        channels: As for `load`.
        limit: As for `load`.

    Returns:
        The images that can be read. The others are in `.failures`, and a warning says how many.

    Raises:
        InputError: If no image can be read, or sizes differ and none was asked for.
    """
    chosen = some_rows(rows.count(), limit)
    form: Form | None = None
    pixels: NDArray[np.uint8] = np.empty(0, np.uint8)
    names: list[str] = []
    failures: list[Failure] = []
    kept: list[int] = []
    wanted = iter(chosen.tolist())
    following = next(wanted, None)
    for number, row in enumerate(rows.read()):
        if number != following:
            continue
        following = next(wanted, None)
        try:
            if form is None:
                form = form_of(row.picture, size, channels).noticing(source)
                pixels = np.empty((len(chosen), form.channels, form.height, form.width), np.uint8)
            pixels[len(kept)] = form.apply(row.picture)
        except SizeMismatchError as error:
            raise InputError(f"{row.name}: {error}") from error
        except InputError as error:
            failures.append(Failure(row.name, str(error)))
        else:
            kept.append(number)
            names.append(row.name)
        if following is None:
            break
    if not kept:
        raise nothing_readable(source, failures)
    if failures:
        warnings.warn(_report(source, failures, len(chosen)), stacklevel=3)
    notes = rows.annotations()
    index = np.array(kept)
    return Images(
        images=torch.from_numpy(pixels[: len(kept)]),
        labels=None if notes.labels is None else torch.from_numpy(notes.labels[index]),
        names=tuple(names),
        groups=torch.from_numpy(index if notes.groups is None else notes.groups[index]),
        classes=notes.classes,
        failures=tuple(failures),
    )


def check_form(size: Size | None, channels: int | None) -> tuple[int, int] | None:
    """Height and width of a requested size, after checking it and the channels.

    Raises:
        InputError: If the channels are not 1 or 3, or a side is below 1 pixel.
    """
    if channels is not None and channels not in CHANNELS:
        raise InputError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2:
        raise InputError(f"size is {size!r}; give a height and a width, or one number for a square")
    height, width = (given.whole("size", side) for side in sides)
    return height, width


def nothing_readable(source: str, failures: list[Failure]) -> InputError:
    """The error for a source in which every row failed."""
    first = f"{failures[0].name}: {failures[0].reason}" if failures else "it has no rows"
    return InputError(f"none of the {len(failures)} images of {source} can be read; the first one is {first}")


def _open_directory(folder: Path, split: str | None) -> Rows:
    found = corruptions_in(folder)
    if found:
        raise InputError(
            f"{folder} holds the arrays of {len(found)} corruptions; name one: {folder / found[0]}.npy, or, with root= "
            f"of the folder above it, {folder.name}/{found[0]}; there are {', '.join(found)}"
        )
    return open_cure(folder, split) if is_cure(folder) else open_folder(folder, split)


def _report(source: str, failures: list[Failure], count: int) -> str:
    shown = "; ".join(f"{failure.name}: {failure.reason}" for failure in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return f"{len(failures)} of {count} images of {source} cannot be read and are left out: {shown}{more}"


def _unknown(source: str, root: Path | None) -> str:
    there = sorted(path.stem for path in root.glob("*.npz")) if root is not None else []
    understood = ["digits", *TORCHVISION, *COLLECTIONS, *there]
    lower = {name.lower(): name for name in understood}
    close = [lower[name] for name in difflib.get_close_matches(source.lower(), lower, n=3, cutoff=0.6)]
    guess = f"; did you mean {' or '.join(close)}?" if close else "."
    name, colon, split = source.rpartition(":")
    if name and colon and split.isidentifier():
        guess = f"; for the part {split!r} of {name} give split={split!r}."
    where = f"in {root}: {', '.join(there) or 'none'}" if root is not None else "names of .npz files need root="
    return (
        f"unknown data source {source!r}: not a folder, not an .npz, .npy or .parquet file, not a known name{guess} "
        f"Understood are a folder of images, FILE.npz, FILE.parquet, digits, torchvision's {', '.join(TORCHVISION)}, "
        f"the published {', '.join(COLLECTIONS)}, and names of .npz files ({where})"
    )
