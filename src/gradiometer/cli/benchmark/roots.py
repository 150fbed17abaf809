"""Where the data sets are."""

from __future__ import annotations

import os

from gradiometer.errors import InputError

ROOT = "folder with the data sets, NAME.npz each; the environment variable GRADIOMETER_DATA_ROOT when absent"


def root_of(given: str | None) -> str:
    """The folder that was given, or that of the environment.

    Raises:
        InputError: There is neither.
    """
    root = given or os.environ.get("GRADIOMETER_DATA_ROOT")
    if not root:
        raise InputError("where are the data sets? Give their folder with --data-root or in GRADIOMETER_DATA_ROOT")
    return root
