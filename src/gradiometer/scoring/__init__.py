"""Scoring a collection of any size into one file: in bounded memory, row by row, resumable."""

from __future__ import annotations

from gradiometer.scoring.journal import Tally
from gradiometer.scoring.rows import COLUMNS, Row
from gradiometer.scoring.run import Summary, score

__all__ = ["COLUMNS", "Row", "Summary", "Tally", "score"]
