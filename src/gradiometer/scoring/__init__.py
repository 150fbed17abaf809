"""Scoring a collection of any size into one file: in bounded memory, row by row, resumable."""

from __future__ import annotations

from gradiometer.scoring.journal import Tally
from gradiometer.scoring.rows import COLUMNS, Judge, Row, judged
from gradiometer.scoring.run import Summary, score
from gradiometer.scoring.severities import Scored, score_severity

__all__ = ["COLUMNS", "Judge", "Row", "Scored", "Summary", "Tally", "judged", "score", "score_severity"]
