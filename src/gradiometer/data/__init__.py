"""Images: data sets by name, folders, archives and tables, streams of them, and splits by base image."""

from __future__ import annotations

from gradiometer.data.cohort import Cohort, shared_patients
from gradiometer.data.cohorts import load_cohort
from gradiometer.data.images import Failure, Images, to_bytes, to_unit
from gradiometer.data.jpeg import reencode
from gradiometer.data.saving import save
from gradiometer.data.sources import load
from gradiometer.data.splits import split
from gradiometer.data.stream import Batch, count, states, stream
from gradiometer.data.tables import Table, read_table

__all__ = [
    "Batch",
    "Cohort",
    "Failure",
    "Images",
    "Table",
    "count",
    "load",
    "load_cohort",
    "read_table",
    "reencode",
    "save",
    "shared_patients",
    "split",
    "states",
    "stream",
    "to_bytes",
    "to_unit",
]
