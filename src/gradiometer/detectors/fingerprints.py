"""Short digests of images, to notice when a detector is calibrated on images that it was fitted on."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import numpy.typing as npt
import torch

from gradiometer.detectors.inputs import Inputs, leaves, rows
from gradiometer.errors import InputError

Fingerprints = npt.NDArray[np.uint64]

_STEPS = 65535
"""Grey levels that values are rounded to: k / 255 falls on a whole level, however it was divided in float32."""

_TOLERATED = 0.01
"""Share of calibration images that may also be among the fitted ones: real collections hold some doubles."""


def fingerprints(inputs: Inputs) -> Fingerprints:
    """Digest the values of each sample.

    Args:
        inputs: A batch of B samples.

    Returns:
        (B,) uint64: equal for equal images, also when one was stored as uint8 and the other as float32 in [0, 1];
        different ones collide with a chance of 2^-64 a pair (BLAKE2b, RFC 7693).

    Example:
        >>> first, second, third = fingerprints(torch.tensor([[0.2, 0.4], [0.2, 0.4], [0.4, 0.2]]))
        >>> bool(first == second), bool(first == third)
        (True, False)
    """
    digests = [hashlib.blake2b(digest_size=8) for _ in range(rows(inputs))]
    for _, tensor in leaves(inputs):
        values = tensor.detach().cpu()
        if values.is_floating_point():
            values = values.double().mul(_STEPS).round().clamp(-(2**31), 2**31 - 1).to(torch.int32)
        for digest, row in zip(digests, values.contiguous().numpy(), strict=True):
            digest.update(row.tobytes())
    return np.array([int.from_bytes(digest.digest(), "little") for digest in digests], dtype=np.uint64)


def check_unseen(calibration: Fingerprints, fitted: Fingerprints) -> None:
    """Refuse calibration images that the detector was fitted on: their scores are too low, and the rate drifts.

    Args:
        calibration: Digests of the calibration images (n,).
        fitted: Digests of the images of the fit (N,).

    Raises:
        InputError: More than 1 in 100 of the calibration images are among the fitted ones. A smaller share is a
            UserWarning.
    """
    same = np.flatnonzero(np.isin(calibration, fitted))
    if not len(same):
        return
    found = f"{len(same)} of {len(calibration)} calibration images (the first is row {same[0]}) were also fitted on"
    if len(same) > _TOLERATED * len(calibration):
        raise InputError(f"{found}, so the false-alarm rate would not hold; give known images that fit has not seen")
    warnings.warn(f"{found}; the false-alarm rate may be slightly off", UserWarning, stacklevel=3)
