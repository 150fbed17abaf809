"""Finished cells of a table on disk, so that an interrupted run continues where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.records import Record
from gradiometer.errors import ArtefactError
from gradiometer.files import replaced

_SCHEMA = 2
"""Raised whenever a detector gives other scores than before for the same readings."""

Results = list[tuple[Record, Scores]]


@dataclass(frozen=True)
class Cells:
    """A folder with one file for each finished challenge. What is broken or cut short is made again.

    Attributes:
        folder: Where the files are, or None to keep nothing.
    """

    folder: Path | None

    def find(self, key: Sequence[str]) -> Results | None:
        """The results of a challenge that was finished before.

        Args:
            key: Everything that they depend on.
        """
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, "np") as file:
                entries = json.loads(file.metadata()["results"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return [_restored(place, entry, arrays) for place, entry in enumerate(entries)]
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError, ArtefactError):
            return None

    def keep(self, key: Sequence[str], results: Results) -> None:
        """Write the results of a challenge, in one step."""
        path = self._path(key)
        if path is None:
            return
        arrays = {}
        for place, (_, scores) in enumerate(results):
            for run, (known, challenging) in enumerate(scores.runs):
                arrays[f"{place}.{run}.known"] = np.ascontiguousarray(known)
                arrays[f"{place}.{run}.challenging"] = np.ascontiguousarray(challenging)
        entries = [
            {"record": record.to_json(), "threshold": scores.threshold, "runs": len(scores.runs)}
            for record, scores in results
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as new:
            safetensors.numpy.save_file(arrays, new, metadata={"results": json.dumps(entries)})

    def _path(self, key: Sequence[str]) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(json.dumps([_SCHEMA, *key]).encode()).hexdigest()
        safe = "".join(letter if letter.isalnum() else "-" for letter in key[0])
        return self.folder / f"{safe}-{digest[:16]}.safetensors"


def _restored(place: int, entry: dict[str, object], arrays: dict[str, np.ndarray]) -> tuple[Record, Scores]:
    record = Record.from_json(str(entry["record"]))
    runs = [
        (arrays[f"{place}.{run}.known"], arrays[f"{place}.{run}.challenging"]) for run in range(int(str(entry["runs"])))
    ]
    threshold = entry["threshold"]
    scores = Scores(
        record.detector,
        record.protocol,
        record.control,
        record.challenge,
        *runs[0],
        None if threshold is None else float(str(threshold)),
        tuple(runs[1:]),
        record.trained_on,
    )
    return record, scores
