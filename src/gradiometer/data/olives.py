"""OLIVES: OCT scans with biomarkers and clinical labels, as its archives unpack, and its mirror on Hugging Face.

Prabhushankar et al., "OLIVES Dataset: Ophthalmic Labels for Investigating Visual Eye Semantics", NeurIPS 2022 (data
sets and benchmarks). Images and labels: doi 10.5281/zenodo.7105232; tables of the splits: the folders `final_csvs_1` to
`final_csvs_3` of the repository olivesgatech/OLIVES_Dataset, or of olivesgatech/Severity_Contrastive_Learning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gradiometer.data.cohort import Cohort
from gradiometer.data.listed import ListedRows
from gradiometer.data.sources import Size, check_form, collect
from gradiometer.data.tables import Table, read_table
from gradiometer.errors import InputError

BIOMARKERS: Mapping[str, str] = {
    "IRF": "Fluid (IRF)",
    "DME": "DRT/ME",
    "IRHRF": "IR HRF",
    "FAVF": "Fully attached vitreous face",
    "PAVF": "Partially attached vitreous face",
}
"""Short name -> column of the released tables, in the order of the published results."""

_TRIALS = ("Prime_FULL", "TREX DME")
"""Folders of the two trials, in `OLIVES`."""

_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": (
        "final_csvs_{split}/biomarker_csv_files/complete_biomarker_training.csv",
        "final_csvs_{split}/complete_biomarker_training.csv",
    ),
    "test": (
        "final_csvs_{split}/biomarker_csv_files/complete_biomarker_test.csv",
        "final_csvs_{split}/complete_biomarker_test.csv",
    ),
    "pool": (
        "final_csvs_{split}/datasets_combined/prime_trex_compressed.csv",
        "final_csvs_{split}/Datasets_Conjoined/prime_trex_compressed.csv",
    ),
}
"""Part -> where its table is below the folder, in either repository."""

_BALANCED: Mapping[str, str] = {
    "IRF": "test_fluirf",
    "DME": "test_DRT_ME",
    "IRHRF": "test_IRHRF",
    "FAVF": "test_FAVF",
    "PAVF": "test_PAVF",
}
"""Biomarker -> table of its test set with as many positive as negative scans."""

_LABELLED = (
    "OLIVES_Dataset_Labels/ml_centric_labels/Biomarker_Clinical_Data_Images.csv",
    "OLIVES_Dataset_Labels/full_labels/Biomarker_Clinical_Data_Images.csv",
)

_SPLIT = re.compile(r"(train|test|pool)([123])(?:_(\w+))?")


def is_olives(folder: Path) -> bool:
    """Whether a folder holds the scans of OLIVES, as its archives unpack."""
    return any((base / trial).is_dir() for base in _bases(folder) for trial in _TRIALS)


def load_olives(
    folder: Path,
    part: str = "labelled",
    *,
    size: Size | None = None,
    channels: int | None = None,
    limit: int | None = None,
    table: Path | None = None,
) -> Cohort:
    """Scans of OLIVES with their biomarkers and clinical labels.

    The five published biomarkers have their short names as columns too: `IRF`, `DME`, `IRHRF`, `FAVF`, `PAVF`.

    Args:
        folder: Where the archives are unpacked: `OLIVES/Prime_FULL/...`, `OLIVES/TREX DME/...`, and beside them
            `OLIVES_Dataset_Labels/` and `final_csvs_1/` to `final_csvs_3/`, as far as they are needed.
        part: `labelled` for all scans with biomarkers (9,408); `train1` and `test1` for the first released split, and
            so on to 3; `test1_IRF` for the balanced test set of one biomarker; `pool1` for the scans with clinical
            labels that the split pre-trains on.
        size: Height and width, as for `load`.
        channels: 1 or 3, as for `load`.
        limit: At most so many scans, as for `load`.
        table: A table of your own, in the place of the part.

    Returns:
        The scans that are there; what is missing is in `.images.failures`.

    Raises:
        InputError: There is no such part, its table is not there, or no scan can be read.
    """
    path = table or table_of(folder, part)
    found = read_table(path)
    rows = ListedRows(_bases(folder), found.names)
    images = collect(rows, f"{folder} ({part})", check_form(size, channels), channels, limit)
    return named(Cohort.of(images).with_table(_with_patients(found)))


def named(cohort: Cohort) -> Cohort:
    """The cohort with the short names of the five biomarkers as columns, where the long ones are there."""
    short = {name: cohort.columns[column] for name, column in BIOMARKERS.items() if column in cohort.columns}
    words = {name: cohort.words[column] for name, column in BIOMARKERS.items() if column in cohort.words}
    return replace(cohort, columns={**cohort.columns, **short}, words={**cohort.words, **words})


def patient_of(name: str) -> str:
    """The patient of a scan, by its path.

    A patient of the trial TREX-DME has a folder for each eye (`0203GOS`, `0203TOD`), one of PRIME has a single
    folder.

    Args:
        name: A path as the tables have it.

    Returns:
        The patient, or "" for another path.

    Example:
        >>> patient_of("/TREX DME/GILA/0203GOS/V1/OS/TREXS_000006.tif"), patient_of("/Prime_FULL/02-008/W0/OD/27.tif")
        ('203', '02-008')
    """
    parts = name.replace("\\", "/").split("/")
    for trial, depth in (("Prime_FULL", 1), ("TREX DME", 2)):
        if trial in parts and len(parts) > parts.index(trial) + depth:
            folder = parts[parts.index(trial) + depth]
            number = re.match(r"0*(\d+)[A-Z]*$", folder)
            return number[1] if number and depth == 2 else folder
    return ""


def _with_patients(table: Table) -> Table:
    """The table with the patients by their folders where they can be told, since some tables number eyes instead."""
    by_path = [patient_of(name) for name in table.names]
    stated = table.patients or ("",) * len(table.names)
    return replace(table, patients=tuple(path or own for path, own in zip(by_path, stated, strict=True)))


def _bases(folder: Path) -> tuple[Path, ...]:
    return (folder, folder / "OLIVES", folder / "OLIVES" / "OLIVES")


def table_of(folder: Path, part: str) -> Path:
    """The table that names the scans of a part.

    Args:
        folder: As for `load_olives`.
        part: As for `load_olives`.

    Raises:
        InputError: There is no such part, or its table is not there.
    """
    if part == "labelled":
        places: tuple[str, ...] = _LABELLED
    else:
        match = _SPLIT.fullmatch(part)
        biomarker = match[3] if match else None
        if match is None or (biomarker is not None and (match[1] != "test" or biomarker not in _BALANCED)):
            raise InputError(
                f"OLIVES has no part {part!r}; choose labelled, train1 to train3, test1 to test3, pool1 to pool3, or a "
                f"balanced test set such as test1_IRF ({', '.join(_BALANCED)})"
            )
        places = tuple(place.format(split=match[2]) for place in _PARTS[match[1]])
        if biomarker is not None:
            places = (f"final_csvs_{match[2]}/test_biomarker_sets/{_BALANCED[biomarker]}.csv",)
    for place in places:
        for base in (folder, folder.parent, folder / "OLIVES"):
            if (base / place).is_file():
                return base / place
    source = "the archive of the labels" if part == "labelled" else "the repository olivesgatech/OLIVES_Dataset"
    raise InputError(f"{folder} has no {places[0]}, which names the scans of {part}; put it there, it is in {source}")
