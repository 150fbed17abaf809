"""Seeds that generators take, and those of single epochs and steps from the one that a user gave."""

from __future__ import annotations

SEEDS = 2**63
"""Below it, every generator takes a seed."""


def derived_seed(seed: int, epoch: int, step: int | None = None) -> int:
    """A seed for one epoch, or for one step of it, other than those of other epochs and steps.

    Args:
        seed: Of the whole training, 0 or more.
        epoch: Counted from 0.
        step: Counted from 0; None for what is drawn once an epoch, such as the order of the images.

    Returns:
        From 0 to 2**63 - 1; a large seed goes round.

    Example:
        >>> derived_seed(0, 3), derived_seed(0, 3, 0), derived_seed(2**62, 3) < 2**63
        (3, 3000010, True)
    """
    of_epoch = seed * 100_003 + epoch
    return (of_epoch if step is None else of_epoch * 1_000_003 + step + 1) % SEEDS
