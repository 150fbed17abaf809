"""What the command lines of the scripts share."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A number of 1 or more.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
