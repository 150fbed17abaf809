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
        p_values: (B, M) in [0, 1]: the share of known images, held out at fit, that look at least as strange to the
            member; below their number, an extrapolation of their tail, which is 0 where it is too small for a float64.

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
        """Say for one input which members find it unlike known images, the strangest first.

        Where none does, many that are a little surprised can still add up: then the two that are most are named.
        """
        values = self.p_values[row]
        said = [f"{self.names[m]} (p = {values[m]:.2g})" for m in np.argsort(values, kind="stable")]
        count = int((values <= STRANGE).sum())
        if not count:
            return f"strange to no member by itself, least usual in {_listed(said[:2])}"
        ordinary = [name for name, value in zip(self.names, values, strict=True) if value > STRANGE]
        rest = f"; ordinary in {_listed(ordinary)}" if ordinary else ""
        return f"unlike known images in {_listed(said[:count])}{rest}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
