"""The two sides of a comparison: readings of known images and of a challenge, with what may be seen of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradiometer.benchmarks.evidence import Evidence
from gradiometer.benchmarks.protocols import Indices, Split
from gradiometer.data import Images

FAMILY = "family"
"""Name of the fact that says to which family a challenge belongs, where a table has several."""


@dataclass(frozen=True, eq=False)
class Challenge:
    """One challenge and how it is divided.

    Attributes:
        name: Its name.
        images: Its images.
        made_from_known: Whether its base images are those of the known held-out images, as with corruptions.
        known: What stands beside it instead of the held-out images, with the same base images: for an attack the
            originals and the noisy ones that count.
        facts: What else there is to say about it, for the records.
        handling: Whether it is known images that were handled in another way, as a control, and no challenge at all.
        wrong: Which of its images (N,) the model is wrong about: these alone are the challenge then, and the others,
            about which it is right, stand beside them instead of the held-out images. Of images made from known ones.
    """

    name: str
    images: Images
    made_from_known: bool = False
    known: Images | None = None
    facts: tuple[tuple[str, float | str], ...] = ()
    handling: bool = False
    wrong: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Side:
    """Readings of one set of images, and what may be seen of it.

    Attributes:
        evidence: The readings.
        groups: Base image of each row, with one numbering on both sides.
        split: Its rows by use.
    """

    evidence: Evidence
    groups: Indices
    split: Split

    @property
    def seen(self) -> Evidence:
        """Readings of the rows that a matched detector may see."""
        return self.evidence.select(self.split.seen)

    @property
    def seen_groups(self) -> Indices:
        """Base images of these rows."""
        return self.groups[self.split.seen]

    @property
    def tested(self) -> Evidence:
        """Readings of the rows that figures are computed on."""
        return self.evidence.select(self.split.test)

    @property
    def digest(self) -> str:
        """A hash of images and division."""
        parts = (self.evidence.images_sha256.encode(), self.groups.tobytes(), self.split.test.tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides.

    Attributes:
        name: Of the challenge.
        known: Known images.
        challenge: The challenge.
        held_out: Whether the known side is the held-out images themselves, on which detectors are calibrated.
        null: Whether the challenge is known images too, and nobody may tell the sides apart.
        facts: What else there is to say about the challenge.
        handling: Whether the challenge is known images that were handled in another way.
        mistakes: Whether the sides are the right and the wrong predictions about the same images, in true proportion.
    """

    name: str
    known: Side
    challenge: Side
    held_out: bool = True
    null: bool = False
    facts: tuple[tuple[str, float | str], ...] = ()
    handling: bool = False
    mistakes: bool = False
