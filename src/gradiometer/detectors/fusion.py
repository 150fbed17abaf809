"""Fisher's sum: several views of one input, each turned into a p-value among known inputs, as one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.members import Member, Views
from gradiometer.detectors.tails import Tail
from gradiometer.errors import InputError, NotFittedError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FEWEST = 60
"""Known inputs below which one of the two parts would be too small."""


class Fusion:
    """Adds up how surprising each member finds an input (Fisher, "Statistical Methods for Research Workers", 1932).

    The known inputs are divided by base image. The members are fitted on the larger part; on the other, their scores
    become p-values, and the sum of -log p, each as often as its member counts, is the score. The members look at the
    same network, so they are not independent and the sum has no known distribution: it is calibrated afterwards like
    any other score.

    Args:
        members: What to ask.
        seed: Of the division.
        held_out: Share of the base images whose scores become p-values.

    Attributes:
        members: The members.
        tails: How the scores of each are turned into p-values, after fit.
    """

    def __init__(self, members: Sequence[Member], seed: int = 0, *, held_out: float = 0.25) -> None:
        self.members = tuple(members)
        self.seed = seed
        self.held_out = held_out
        self.tails: tuple[Tail, ...] = ()

    def fit(self, known: Views, labels: Integers, groups: Integers | None = None) -> Fusion:
        """Learn from known inputs.

        Args:
            known: Views of N inputs.
            labels: Their classes (N,).
            groups: Their base images (N,); each its own when None.

        Returns:
            Itself.

        Raises:
            InputError: Too few inputs, or too few base images.
        """
        if len(known) < _FEWEST:
            raise InputError(
                f"{len(known)} known image(s) are too few to fit and to hold some out; give {_FEWEST} or more"
            )
        apart = self.apart(np.arange(len(known)) if groups is None else groups)
        held_out = known.select(apart)
        tails = []
        for member in self.members:
            member.fit(known.select(~apart), labels[~apart])
            member.settle(held_out)
            tails.append(Tail(member.score(held_out)))
        self.tails = tuple(tails)
        return self

    def apart(self, groups: Integers) -> npt.NDArray[np.bool_]:
        """Which rows (N,) make the p-values: all rows of a random share of the base images.

        Args:
            groups: Base images (N,).

        Raises:
            InputError: There are too few base images.
        """
        bases = np.random.default_rng(self.seed).permutation(np.unique(groups))
        rows = np.isin(groups, bases[: max(1, round(len(bases) * self.held_out))])
        if min(rows.sum(), (~rows).sum()) < _FEWEST // 6:
            raise InputError(
                f"{len(bases)} base image(s) leave {int((~rows).sum())} known images to fit and {int(rows.sum())} to "
                "hold out; give images of more base images"
            )
        return rows

    def surprises(self, views: Views) -> Floats:
        """-log p of every member (N, M), natural log, 0 or larger.

        Raises:
            NotFittedError: Before fit.
        """
        if not self.tails:
            raise NotFittedError("the fusion has no known images yet; call fit first")
        pairs = zip(self.members, self.tails, strict=True)
        return np.stack([tail.surprise(member.score(views)) for member, tail in pairs], axis=1)

    def score(self, views: Views) -> Floats:
        """The sum of the surprises, each as often as its member counts (N,).

        Raises:
            NotFittedError: Before fit.
        """
        total: Floats = (self.surprises(views) * [member.weight for member in self.members]).sum(1)
        return total

    def state(self) -> dict[str, Array]:
        """The arrays that [restore][gradiometer.detectors.fusion.Fusion.restore] takes."""
        arrays: dict[str, Array] = {}
        for member, tail in zip(self.members, self.tails, strict=True):
            arrays[f"{member.name}.tail"] = tail.scores
            arrays |= {f"{member.name}.{name}": array for name, array in member.state().items()}
        return arrays

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take back what state gave."""
        for member in self.members:
            start = f"{member.name}."
            member.restore({name.removeprefix(start): array for name, array in state.items() if name.startswith(start)})
        self.tails = tuple(Tail(state[f"{member.name}.tail"].astype(np.float64)) for member in self.members)
