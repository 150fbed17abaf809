"""Traffic signs under challenging conditions: the file names and folders of CURE-TSR.

Source: Temel, Kwon, Prabhushankar and AlRegib, "CURE-TSR: Challenging Unreal and Real Environments for Traffic Sign
Recognition", 2017. The images are BMP of different sizes, to be had from the authors on request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from gradiometer.data.folder import image_files, printable
from gradiometer.data.rows import Annotations, Row
from gradiometer.errors import InputError

SIGNS = (
    *("speed limit", "goods vehicles", "no overtaking", "no stopping", "no parking", "stop", "bicycle", "hump"),
    *("no left", "no right", "priority to", "no entry", "yield", "parking"),
)
"""The types of signs in the order of their numbers, which start at 1."""

CHALLENGES = (
    *("challenge_free", "decolorization", "lens_blur", "codec_error", "darkening", "dirty_lens", "exposure"),
    *("gaussian_blur", "noise", "rain", "shadow", "snow", "haze"),
)
"""The types of challenges in the order of their numbers, which start at 0."""

_NAME = re.compile(r"(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{1,7})\.bmp", re.IGNORECASE)
_SPLIT = re.compile(r"([a-z_]+?)(?:_([1-5]))?")


@dataclass(frozen=True)
class CureName:
    """What a file name says.

    Attributes:
        sequence_type: 1 for real, 2 for unreal (simulated).
        sign_type: 1 to 14, the place in `SIGNS` plus 1.
        challenge_type: 0 to 12, the place in `CHALLENGES`.
        level: 1 to 5, or 0 without a challenge.
        index: Number of the sign; the same under every challenge.
    """

    sequence_type: int
    sign_type: int
    challenge_type: int
    level: int
    index: int


def parse_name(name: str) -> CureName | None:
    """Take a file name apart.

    Args:
        name: Such as `01_04_00_00_0001.bmp`.

    Returns:
        What it says, or None when it is no name of CURE-TSR.

    Example:
        >>> parse_name("01_04_12_03_0017.bmp")
        CureName(sequence_type=1, sign_type=4, challenge_type=12, level=3, index=17)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    found = CureName(*map(int, match.groups()))
    in_range = (
        found.sequence_type in (1, 2)
        and 1 <= found.sign_type <= len(SIGNS)
        and found.challenge_type < len(CHALLENGES)
        and found.level <= 5
        and (found.level == 0) == (found.challenge_type == 0)
    )
    return found if in_range else None


@dataclass(frozen=True)
class CureRows:
    """The images below a folder whose names are those of CURE-TSR; others are passed over.

    Attributes:
        folder: Where to look, at any depth.
        challenge: The type of challenge that is read, or None for all.
        level: The level that is read, or None for all.
    """

    folder: Path
    challenge: int | None = None
    level: int | None = None

    def count(self) -> int:
        """The number of images."""
        return sum(1 for _ in self._files())

    def read(self, start: int = 0) -> Iterator[Row]:
        """The images from number `start` on."""
        return (Row(printable(path), path) for path, _ in islice(self._files(), start, None))

    def annotations(self) -> Annotations:
        """The sign as the label, and as the base image the sign in its surroundings, whatever the challenge."""
        names = [(name, _is_training(path)) for path, name in self._files()]
        labels = np.array([name.sign_type - 1 for name, _ in names], dtype=np.int64)
        return Annotations(labels, SIGNS, np.array([_base(*name) for name in names], dtype=np.int64))

    def _files(self) -> Iterator[tuple[Path, CureName]]:
        for path in image_files(self.folder):
            name = parse_name(path.name)
            if name is not None and self.challenge in (None, name.challenge_type) and self.level in (None, name.level):
                yield path, name


def is_cure(folder: Path) -> bool:
    """Whether the first image below a folder has a name of CURE-TSR."""
    first = next(image_files(folder), None)
    return first is not None and parse_name(first.name) is not None


def open_cure(folder: Path, split: str | None) -> CureRows:
    """The images of CURE-TSR below a folder.

    Args:
        folder: An existing folder, such as `CURE-TSR/Real_Test`, or one of its sub-folders.
        split: A sub-folder such as `Haze-3`; or a challenge (`challenge_free`, `haze`), or a challenge at a level
            (`haze_3`), wherever its files are; None for all.

    Raises:
        InputError: If there is no such sub-folder or challenge, or no image of it.
    """
    if split is None:
        return CureRows(folder)
    if (folder / split).is_dir():
        return CureRows(folder / split)
    match = _SPLIT.fullmatch(split)
    if match is None or match[1] not in CHALLENGES:
        raise InputError(
            f"{folder} has no split {split!r}; choose a sub-folder, or one of {', '.join(CHALLENGES)}, with _1 to _5 "
            "for one level"
        )
    rows = CureRows(folder, CHALLENGES.index(match[1]), None if match[2] is None else int(match[2]))
    if next(rows.read(), None) is None:
        raise InputError(f"{folder} holds no images of {split}; look for the folder that does")
    return rows


def _base(name: CureName, train: bool) -> int:
    """A number for the sign in its surroundings that is the same in every run and for every folder of one part."""
    return ((int(train) * 10 + name.sequence_type) * 100 + name.sign_type) * 10**7 + name.index


def _is_training(path: Path) -> bool:
    """Whether an image is below a folder such as `Real_Train`; training and test images are numbered alike."""
    return any("train" in part.lower() for part in path.absolute().parts[-3:-1])
