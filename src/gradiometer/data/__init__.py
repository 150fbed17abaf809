"""Images: data sets by name, folders, archives and tables, streams of them, and splits by base image."""

from __future__ import annotations

from gradiometer.data.images import Failure, Images, to_bytes, to_unit
from gradiometer.data.jpeg import reencode
from gradiometer.data.saving import save
from gradiometer.data.sources import load
from gradiometer.data.splits import split
from gradiometer.data.stream import Batch, count, stream

__all__ = ["Batch", "Failure", "Images", "count", "load", "reencode", "save", "split", "stream", "to_bytes", "to_unit"]
