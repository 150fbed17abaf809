"""Short digests of images, to notice when what should be held out is among the images of the fit."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradiometer.detectors.inputs import Inputs, leaves, rows
from gradiometer.errors import InputError

Fingerprints = npt.NDArray[np.uint64]

_STEPS = 65535
"""Grey levels that values are rounded to: k / 255 falls on a whole level, however it was divided in float32."""

_ORDINARY = (2.0**-9, 2.0**15)
"""Largest values of a sample between which it is rounded to these grey levels: below, hardly a level would be left to
tell samples apart, and above, they would leave the range of 32 bits."""

_MANTISSA = 2**16
"""Steps of the mantissa to which the values of all other samples are rounded."""

TOLERATED = 0.01
"""Share of held-out images that may also be among the fitted ones: real collections hold some doubles."""


def fingerprints(inputs: Inputs) -> Fingerprints:
    """Digest the values of each sample.

    Args:
        inputs: A batch of B samples.

    Returns:
        (B,) uint64: equal for equal images, also when one was stored as uint8 and the other as float32 in [0, 1];
        samples that differ by more than rounding collide with a chance of 2^-64 a pair (BLAKE2b, RFC 7693).

    Example:
        >>> first, second, third = fingerprints(torch.tensor([[0.2, 0.4], [0.2, 0.4], [0.4, 0.2]]))
        >>> bool(first == second), bool(first == third)
        (True, False)
    """
    digests = [hashlib.blake2b(digest_size=8) for _ in range(rows(inputs))]
    for _, tensor in leaves(inputs):
        for digest, row in zip(digests, _rounded(tensor.detach().cpu()), strict=True):
            digest.update(row.contiguous().numpy().tobytes())
    return np.array([int.from_bytes(digest.digest(), "little") for digest in digests], dtype=np.uint64)


def _rounded(values: Tensor) -> Sequence[Tensor]:
    """The values of each sample, rounded so that equal ones are equal however they were computed."""
    if not values.is_floating_point() or not values.numel():
        return values.unbind()
    values = values.double()
    low, high = _ORDINARY
    largest = values.reshape(len(values), -1).abs().amax(1)
    ordinary = ((largest >= low) & (largest < high)) | (largest == 0)
    levels = values.mul(_STEPS).round().clamp(-(2**31), 2**31 - 1).to(torch.int32)
    if ordinary.all():
        return levels.unbind()
    mantissas, exponents = torch.frexp(values)
    relative = torch.ldexp(mantissas.mul(_MANTISSA).round(), exponents)
    return [levels[row] if plain else relative[row] for row, plain in enumerate(ordinary.tolist())]


def check_unseen(
    held_out: Fingerprints,
    fitted: Fingerprints,
    role: str = "calibration images",
    what: str = "the false-alarm rate",
) -> None:
    """Refuse held-out images that the detector was fitted on: their scores are too low, and what is set by them drifts.

    Args:
        held_out: Digests of the held-out images (n,).
        fitted: Digests of the images of the fit (N,).
        role: What the held-out images are, for the message.
        what: What would not hold.

    Raises:
        InputError: More than 1 in 100 of the held-out images are among the fitted ones. A smaller share is a
            UserWarning.
    """
    check_none_fitted(np.isin(held_out, fitted), role, what)


def check_none_fitted(fitted: npt.NDArray[np.bool_], role: str, what: str) -> None:
    """The same, where it is known already which held-out images were fitted on.

    Args:
        fitted: Whether each of the held-out images was (n,).
        role: As for check_unseen.
        what: As for check_unseen.

    Raises:
        InputError: As for check_unseen.
    """
    same = np.flatnonzero(fitted)
    if not len(same):
        return
    found = f"{len(same)} of {len(fitted)} {role} (the first is row {same[0]}) were also fitted on"
    if len(same) > TOLERATED * len(fitted):
        raise InputError(f"{found}, so {what} would not hold; give known images that fit has not seen")
    warnings.warn(f"{found}; {what} may be slightly off", UserWarning, stacklevel=4)
