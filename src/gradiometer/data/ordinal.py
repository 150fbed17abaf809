"""Which numbers have an order: class names and cells of tables may be numbers, or text that is merely numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradiometer.errors import InputError

_WHOLE = re.compile(r"([0-9]{1,9})(?:[ _.:-]+[^0-9].*)?")
"""A whole number, or one with words behind it, such as `1 mild`; a date is none."""

_SHOWN = 8

_CLASSES = (
    "classes are numbered in alphabetical order, which says nothing about which is more",
    "name the classes 0, 1, 2, ... or 0 healthy, 1 mild, ... in the order of the grades, or give a column of numbers",
)


@dataclass(frozen=True)
class Words:
    """What the numbers of a column stand for, where they are places in an alphabetical order.

    Attributes:
        texts: The texts, in the order of their numbers.
        why: Why the column is not one of numbers.
        remedy: What makes it one.
        mostly_numbers: Whether most of the cells are numbers, so that the others look like mistakes.
    """

    texts: tuple[str, ...]
    why: str
    remedy: str
    mostly_numbers: bool = False

    @property
    def listed(self) -> str:
        """The texts with their numbers, for messages."""
        return listed(self.texts)


def words_of(classes: Sequence[str]) -> Words | None:
    """What labels stand for, or None where they are numbers or in an order that somebody chose.

    Args:
        classes: Names of the classes, in the order of their labels.
    """
    if not classes or _numbers(classes) is not None or list(classes) != sorted(classes):
        return None
    return Words(tuple(classes), *_CLASSES)


def values_of(labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels (N,) by the names of their classes, where these are or begin with whole numbers: a folder `3 severe` is 3.

    Example:
        >>> values_of(np.array([0, 1, 2]), ("1", "10", "2")).tolist()
        [1, 10, 2]
    """
    numbers = _numbers(classes)
    return labels if numbers is None else np.array(numbers, dtype=np.int64)[labels]


def grades_of(labels: NDArray[np.int64], classes: Sequence[str], source: str) -> NDArray[np.int64]:
    """Labels (N,) as grades.

    Args:
        labels: The labels.
        classes: Names of the classes, in the order of their labels; empty when there are none.
        source: What messages call the source.

    Raises:
        InputError: The classes have names that are no numbers, in alphabetical order: healthy could be grade 2.
    """
    words = words_of(classes)
    if words is not None:
        raise InputError(f"the labels of {source} are no grades ({words.listed}): {words.why}; {words.remedy}")
    return values_of(labels, classes)


def listed(texts: Sequence[str]) -> str:
    """Texts with the numbers that they got, for messages."""
    more = ", ..." if len(texts) > _SHOWN else ""
    return ", ".join(f"{text} = {number}" for number, text in enumerate(texts[:_SHOWN])) + more


def _numbers(classes: Sequence[str]) -> list[int] | None:
    """The numbers that the names of all classes are or begin with, each another one; None when there are none."""
    found = [int(match[1]) for name in classes if (match := _WHOLE.fullmatch(name)) is not None]
    return found if found and len(set(found)) == len(classes) else None
