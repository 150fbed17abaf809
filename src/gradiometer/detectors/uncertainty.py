"""Several predictions for one input, and how much of their uncertainty is disagreement between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]

KINDS = ("total", "aleatoric", "epistemic")
"""The parts, in the order of the fields of `Uncertainty`."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Uncertainty of B predictions, in nats for classes and in squared units for numbers. All parts are 0 or larger.

    Attributes:
        total: Of the mean prediction (B,).
        aleatoric: What the members see on average (B,): it stays when they agree.
        epistemic: What their disagreement adds (B,): total - aleatoric.
    """

    total: Floats
    aleatoric: Floats
    epistemic: Floats


def of_classes(probabilities: npt.ArrayLike) -> Uncertainty:
    """Entropy of the mean, mean entropy, and mutual information between the class and the member.

    Source: Depeweg et al., "Decomposition of Uncertainty in Bayesian Deep Learning", ICML 2018.

    Args:
        probabilities: (M, B, C) for M members and C classes.

    Returns:
        The parts, in nats; the total is at most log C.

    Raises:
        InputError: Another shape, or rows that are no probabilities.

    Example:
        >>> found = of_classes([[[1.0, 0.0]], [[0.0, 1.0]]])  # two members, both sure, of different classes
        >>> found.total.round(4).tolist(), found.aleatoric.tolist(), found.epistemic.round(4).tolist()
        ([0.6931], [0.0], [0.6931])
    """
    members = np.asarray(probabilities, dtype=np.float64)
    if members.ndim != 3 or (members < 0).any() or not np.allclose(members.sum(-1), 1, atol=1e-4):
        raise InputError(f"probabilities have shape {members.shape}; give (members, inputs, classes) that sum to 1")
    total = entr(members.mean(0)).sum(-1)
    # The entropy of the mean is never smaller than the mean entropy, except by rounding.
    aleatoric = np.minimum(entr(members).sum(-1).mean(0), total)
    return Uncertainty(total, aleatoric, total - aleatoric)


def of_numbers(means: npt.ArrayLike, variances: npt.ArrayLike) -> Uncertainty:
    """Var(y) of a mixture of M predictions: the mean of their variances plus the variance of their means.

    Args:
        means: (M, B), what each member predicts.
        variances: (M, B), how much noise it predicts.

    Returns:
        The parts, in squared units of y (law of total variance).

    Raises:
        InputError: The shapes differ, or a variance is negative.

    Example:
        >>> found = of_numbers([[0.0], [2.0]], [[0.5], [1.5]])
        >>> found.total.tolist(), found.aleatoric.tolist(), found.epistemic.tolist()
        ([2.0], [1.0], [1.0])
    """
    centres, noise = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if centres.ndim != 2 or centres.shape != noise.shape or (noise < 0).any():
        raise InputError(
            f"means {centres.shape} and variances {noise.shape} must both be (members, inputs), no variance below 0"
        )
    aleatoric, epistemic = noise.mean(0), centres.var(0)
    return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


def columns(found: Uncertainty) -> Floats:
    """All parts side by side (N, 3), in the order of `KINDS`."""
    return np.stack([getattr(found, kind) for kind in KINDS], axis=1)
