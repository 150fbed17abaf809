"""Images with what is known about each: any number of columns of numbers, and the patients they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradiometer.data.images import Images
from gradiometer.data.ordinal import Words, values_of, words_of
from gradiometer.data.splits import split
from gradiometer.data.tables import Table
from gradiometer.errors import InputError

CLASS = "class"
"""The column of the labels that a source has by itself: class folders, `train_labels` of an archive."""

IMAGE = "image"
"""The column in which every image has a label of its own: in contrastive learning, SimCLR."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images and what is known about them.

    Attributes:
        images: The images. Those of one patient are one base image, where patients are known.
        columns: float64 (N,) by name, NaN where a value is missing.
        patients: The patient of each image, or None when the source does not say.
        words: For columns of text, what their numbers stand for.

    Raises:
        InputError: A column or the patients have another length than the images.

    Example:
        >>> few = Images.of(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
        >>> Cohort(few, {"CST": np.array([270.0, np.nan, 310.0])}, None).labels("CST").tolist()
        [0, -1, 1]
    """

    images: Images
    columns: Mapping[str, NDArray[np.float64]]
    patients: tuple[str, ...] | None = None
    words: Mapping[str, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check lengths."""
        for name, column in self.columns.items():
            if column.shape != (len(self.images),):
                raise InputError(f"the column {name!r} has shape {column.shape} for {len(self.images)} images")
        if self.patients is not None and len(self.patients) != len(self.images):
            raise InputError(f"{len(self.patients)} patients for {len(self.images)} images; give one for each")

    @classmethod
    def of(cls, images: Images, patients: Sequence[str] | None = None) -> Cohort:
        """Images with their own labels as the column `class`, grouped by patient when patients are given.

        Classes whose names are whole numbers, or begin with them, have those values.

        Args:
            images: The images.
            patients: The patient of each; "" where it is not known, which makes the image a patient of its own.
        """
        columns, words = {}, {}
        if images.labels is not None:
            columns[CLASS] = values_of(images.labels.numpy(), images.classes).astype(np.float64)
            if (found := words_of(images.classes)) is not None:
                words[CLASS] = found
        if patients is None:
            return cls(images, columns, None, words)
        return cls(_grouped(images, patients), columns, tuple(patients), words)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def column(self, name: str) -> NDArray[np.float64]:
        """Values (N,) of a column, NaN where they are missing. Texts have their places in alphabetical order.

        Raises:
            InputError: There is no such column, or most of its cells are numbers and some are not.
        """
        if name == IMAGE and name not in self.columns:
            return np.arange(len(self), dtype=np.float64)
        if name not in self.columns:
            there = ", ".join(self.columns) or "none"
            raise InputError(f"the images have no column {name!r}; there are {there}; add a table that has it")
        words = self.words.get(name)
        if words is not None and words.mostly_numbers:
            raise InputError(f"the column {name!r} is one of numbers, but {words.why}; {words.remedy}")
        return self.columns[name]

    def ordered(self, name: str) -> NDArray[np.float64]:
        """Values (N,) of a column of which more is more, NaN where they are missing.

        Raises:
            InputError: There is no such column, or it is one of text.
        """
        values = self.column(name)
        words = self.words.get(name)
        if words is not None:
            raise InputError(f"the column {name!r} has no order ({words.listed}): {words.why}; {words.remedy}")
        return values

    def labels(self, name: str) -> Tensor:
        """A column as labels: equal values have equal numbers.

        Returns:
            int64 (N,), from 0 in the order of the values, -1 where a value is missing.

        Raises:
            InputError: There is no such column.
        """
        values = self.column(name)
        known = ~np.isnan(values)
        labels = np.full(len(self), -1, dtype=np.int64)
        labels[known] = np.unique(values[known], return_inverse=True)[1].reshape(-1)
        return torch.from_numpy(labels)

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Cohort:
        """The rows of an index or a mask, in its order.

        Raises:
            InputError: It selects nothing.
        """
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
        patients = None if self.patients is None else tuple(self.patients[row] for row in rows)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Cohort(self.images.select(rows), columns, patients, self.words)

    def with_table(self, table: Table) -> Cohort:
        """The images with the columns of a table, found by name.

        Images that the table does not name have missing values there. A column of the table takes the place of one
        that has its name. Patients come from the table when it names them.

        Raises:
            InputError: The table names none of the images.
        """
        rows = table.rows_of(self.images.names)
        known = rows >= 0
        if not known.any():
            raise InputError(
                f"{table.path} names none of the {len(self)} images: it has {table.names[0]!r}, they have "
                f"{self.images.names[0]!r}"
            )
        columns, words = dict(self.columns), dict(self.words)
        for name in table.columns:
            values = np.full(len(self), np.nan)
            values[known] = table.numbers(name)[rows[known]]
            columns[name] = values
            words.pop(name, None)
            if (found := table.words(name)) is not None:
                words[name] = found
        if table.patients is None:
            return replace(self, columns=columns, words=words)
        patients = [table.patients[row] if row >= 0 else "" for row in rows]
        return Cohort(_grouped(self.images, patients), columns, tuple(patients), words)

    def divide(self, shares: Mapping[str, float], seed: int = 0) -> dict[str, Cohort]:
        """Parts that share no patient, nor any other base image.

        Args:
            shares: Name and share of each part, as `data.split` takes them.
            seed: Chooses who goes where.

        Raises:
            InputError: There are too few patients for the shares.
        """
        numbered = replace(self.images, names=tuple(map(str, range(len(self)))))
        parts = split(numbered, shares, seed, stratify=False)
        return {name: self.select(np.array([int(row) for row in part.names])) for name, part in parts.items()}


def shared_patients(first: Cohort, second: Cohort) -> tuple[str, ...]:
    """Patients with images in both parts, in alphabetical order; none where patients are not known."""
    if first.patients is None or second.patients is None:
        return ()
    return tuple(sorted({*first.patients} & {*second.patients} - {""}))


def shared_images(first: Cohort, second: Cohort) -> NDArray[np.int64]:
    """Images of the second part that are in the first one too, pixel by pixel, where a patient is not known.

    Returns:
        int64: their rows in the second part. Images whose patients are known on both sides are not compared: patients
        say more.
    """
    prints, others = (np.array([_digest(image) for image in part.images.images]) for part in (first, second))
    unknown, others_unknown = (_nobodys(part) for part in (first, second))
    same = np.where(others_unknown, np.isin(others, prints), np.isin(others, prints[unknown]))
    return np.flatnonzero(same)


def _digest(image: Tensor) -> str:
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _nobodys(part: Cohort) -> NDArray[np.bool_]:
    """Whether the patient of each image is not known."""
    return np.array([not patient for patient in part.patients or [""] * len(part)])


def _grouped(images: Images, patients: Sequence[str]) -> Images:
    """Images with the patients as base images; an image of an unknown patient is its own."""
    names = [patient or f"\0{row}" for row, patient in enumerate(patients)]
    numbers = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64).reshape(-1)
    return replace(images, groups=torch.from_numpy(numbers))
