"""What the members of a detector think of an input, one p-value each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STRANGE = 0.01
"""p-value up to which a member calls an input unlike known images."""


@dataclass(frozen=True, eq=False)
class Opinions:
    """One p-value for each input and member.

    Attributes:
        names: What each of the M members looks at.
        p_values: (B, M) in (0, 1]: the share of known images, held out at fit, that look at least as strange to the
            member; below their number, an extrapolation of their tail.

    Example:
        >>> Opinions(("features", "logits"), np.array([[0.0004, 0.7]])).words(0)
        'unlike known images in features (p = 0.0004); ordinary in logits'
    """

    names: tuple[str, ...]
    p_values: Floats

    @classmethod
    def joined(cls, parts: Sequence[Opinions]) -> Opinions:
        """The opinions on several batches, one behind the other."""
        return cls(parts[0].names, np.concatenate([part.p_values for part in parts]))

    def words(self, row: int) -> str:
        """Say for one input which members find it unlike known images, the strangest first."""
        values = self.p_values[row]
        order = np.argsort(values, kind="stable")
        strange = [f"{self.names[m]} (p = {values[m]:.2g})" for m in order if values[m] <= STRANGE]
        ordinary = [self.names[m] for m in range(len(values)) if values[m] > STRANGE]
        said = [f"unlike known images in {_listed(strange)}"] if strange else []
        return "; ".join(said + ([f"ordinary in {_listed(ordinary)}"] if ordinary else []))


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
