"""The folder of a table: the results that are in it are kept, or given up on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gradiometer.benchmarks import records
from gradiometer.benchmarks.loading import TableSettings
from gradiometer.benchmarks.parts import RECORDS
from gradiometer.errors import ArtefactError, InputError
from gradiometer.files import write_text

SETTINGS = "settings.json"
"""The settings of the run whose records are in the folder."""

_IDLE = ("data_root", "out", "batch_size", "attack_batch", "memory", "keep_readings")
"""Settings that results do not depend on."""


def check(settings: TableSettings) -> None:
    """Refuse to begin the records of a folder anew when results in it would not be made again.

    A run begins `records.jsonl` anew and takes what is finished from its cells. That gives all records again, and more,
    under the same settings, or with more challenges, protocols or seeds than before.

    Args:
        settings: What is to be run.

    Raises:
        InputError: If there are results of other settings, naming them.
        ArtefactError: If the settings of the earlier run cannot be read.
    """
    path, noted = settings.out / RECORDS, settings.out / SETTINGS
    if not noted.is_file() or not path.is_file() or not path.stat().st_size:
        return
    try:
        earlier = dict(json.loads(noted.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ArtefactError(f"{noted} cannot be read ({error}); delete {path} to begin again") from error
    if told := "; ".join(_lost(earlier, _noted(settings))):
        raise InputError(
            f"{path} holds results that this run would drop ({told}); give the same settings or more, another folder, "
            "or delete that file to begin again, which keeps finished cells"
        )


def begin(settings: TableSettings) -> Path:
    """An empty file of records, and the settings beside it.

    Args:
        settings: What is run.

    Returns:
        The file of records.

    Raises:
        ArtefactError: If the settings cannot be written.
    """
    path = settings.out / RECORDS
    records.write(path, [])
    write_text(settings.out / SETTINGS, json.dumps(_noted(settings), indent=1) + "\n")
    return path


def _noted(settings: TableSettings) -> dict[str, Any]:
    """The settings that results depend on, as JSON gives them back."""
    kept = {name: value for name, value in asdict(settings).items() if name not in _IDLE}
    found: dict[str, Any] = json.loads(json.dumps({"table": type(settings).__name__, **kept}))
    return found


def _lost(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What the earlier run had that this one leaves out."""
    for name in sorted(earlier.keys() & now.keys()):  # what one of them did not know yet, it left as it was
        before, after = earlier[name], now[name]
        if name == "detectors" and not after:
            continue  # all of them
        if isinstance(before, list) and isinstance(after, list) and before:
            if missing := [value for value in before if value not in after]:
                yield f"{name} lacks {', '.join(map(str, missing))}"
        elif before != after:
            yield f"{name} was {before!r}, now {after!r}"
