"""Finding images with what is known about each, by path or name."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath

from gradiometer.data.cohort import Cohort
from gradiometer.data.folder import image_files
from gradiometer.data.listed import ListedRows, find
from gradiometer.data.olives import is_olives, load_olives
from gradiometer.data.olives_hub import HUB, fetch, load_hub, shards
from gradiometer.data.sources import Size, Source, check_form, collect, load
from gradiometer.data.tables import Table, read_table
from gradiometer.errors import InputError

_KERMANY = re.compile(r"(?:CNV|DME|DRUSEN|NORMAL)-(\d+)-\d+")
"""File names of the OCT set of Kermany et al. (Cell 2018): disease, patient, number of the scan."""


def load_cohort(
    source: Source,
    *,
    split: str | None = None,
    table: Source | None = None,
    key: str | None = None,
    patient: str | None = None,
    root: Source | None = None,
    size: Size | None = None,
    channels: int | None = None,
    limit: int | None = None,
    download: bool = False,
) -> Cohort:
    """Load images with what is known about each of them.

    Labels that a source has by itself (class folders, `train_labels`) are the column `class`. Patients come from the
    table, from OLIVES, or from file names of the OCT set of Kermany et al. (`DME-1072015-3.jpeg`); elsewhere they are
    not known.

    Args:
        source: As for `load`; or a folder into which the archives of OLIVES are unpacked, with `split` as for
            `load_olives`; or a copy of its mirror on Hugging Face; or `gOLIVES/OLIVES_Dataset`, in `root`.
        split: As for `load` or `load_olives`.
        table: A .csv or .parquet file with a row for each image. With a folder whose files it names, those are what is
            loaded, and a warning counts the others; else its columns are added to the images that it names.
        key: The column of the table that names the image, if it is none of the usual ones.
        patient: The column of the table that names the patient, if it is none of the usual ones.
        root: As for `load`.
        size: As for `load`.
        channels: As for `load`.
        limit: As for `load`.
        download: Whether a source that is not there may be fetched.

    Raises:
        InputError: There is no such source or table, or they do not fit each other.
        DependencyError: Something that they need is not installed.

    Example:
        >>> cohort = load_cohort("digits", limit=50)
        >>> cohort.column("class").shape, cohort.patients
        ((50,), None)
    """
    found = None if table is None else read_table(Path(table), key, patient)
    folder = _hub(root, download) if str(source) == HUB else Path(source)
    form = {"size": size, "channels": channels, "limit": limit}
    if folder.is_dir() and is_olives(folder):
        cohort = load_olives(folder, split or "labelled", size=size, channels=channels, limit=limit)
    elif folder.is_dir() and shards(folder, split):
        cohort = load_hub(folder, split, size=size, channels=channels, limit=limit)
    elif folder.is_dir() and split is None and found is not None and any(find([folder], name) for name in found.names):
        _note_unnamed(folder, found)
        images = collect(ListedRows((folder,), found.names), str(folder), check_form(size, channels), channels, limit)
        cohort = Cohort.of(images)
    else:
        images = load(source, split=split, root=root, download=download, **form)  # type: ignore[arg-type]
        cohort = Cohort.of(images, _by_name(images.names))
    return cohort if found is None else cohort.with_table(found)


def _note_unnamed(folder: Path, table: Table) -> None:
    """Say how many images of a folder are left out because the table does not name them."""
    named = {find([folder], name) for name in table.names}
    others = [path for path in image_files(folder) if path not in named]
    if others:
        warnings.warn(
            f"{len(others)} of the images in {folder} are not in {table.path} and are left out, such as {others[0]}; "
            "add rows for them to take them too",
            stacklevel=3,
        )


def _by_name(names: tuple[str, ...]) -> list[str] | None:
    """Patients by the file names of Kermany et al., if all files are named like theirs."""
    matches = [_KERMANY.fullmatch(PurePosixPath(name).stem) for name in names]
    found = [match[1] for match in matches if match is not None]
    return found if len(found) == len(names) else None


def _hub(root: Source | None, download: bool) -> Path:
    if root is None:
        raise InputError(f"{HUB} is read from a folder; say which one with root=")
    for folder in (Path(root) / "OLIVES_Dataset", Path(root) / HUB):
        if shards(folder, None):
            return folder
    if not download:
        raise InputError(f"{HUB} is not in {root}; put it there as OLIVES_Dataset/, or allow it with download=True")
    return fetch(Path(root))
