"""Files of fitted detectors: safetensors with a JSON header. Nothing in them is executed when they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gradiometer.errors import ArtefactError
from gradiometer.files import write_bytes

Tensors = Mapping[str, npt.NDArray[np.generic]]

SCHEMA = 1
"""Version of the layout of the file; raised whenever an older reader would misread it."""

_KEY = "gradiometer"
"""The entry of the safetensors metadata that holds the header."""

_REQUIRED = ("schema", "class", "tensors", "digest")


@dataclass(frozen=True, eq=False)
class Artefact:
    """What is in a file.

    Attributes:
        header: Everything that is not an array.
        tensors: The arrays by name.
    """

    header: dict[str, Any]
    tensors: dict[str, npt.NDArray[np.generic]]

    def get(self, key: str) -> Any:
        """An entry of the header.

        Raises:
            ArtefactError: It is missing.
        """
        if key not in self.header:
            raise ArtefactError(f"the file's header lacks {key!r}; save the detector again")
        return self.header[key]

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """An array.

        Raises:
            ArtefactError: It is missing.
        """
        if name not in self.tensors:
            raise ArtefactError(f"the file lacks the array {name!r}; save the detector again")
        return self.tensors[name]

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """An array as float64.

        Raises:
            ArtefactError: It is missing.
        """
        return self.array(name).astype(np.float64)


def write(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a file in one step: what was at the path stays until the new file is complete.

    Args:
        path: Where to; the folder must exist.
        header: JSON values; schema version, names of the tensors and their digest are added.
        tensors: Arrays by name.

    Raises:
        ArtefactError: The file cannot be written (no such folder, no permission, disk full).
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    complete = {"schema": SCHEMA, **header, "tensors": sorted(arrays)}
    data = save(arrays, {_KEY: json.dumps(complete | {"digest": _digest(complete, arrays)})})
    write_bytes(Path(path), data)


def read(path: str | os.PathLike[str]) -> Artefact:
    """Read a file and check that it is whole and of a schema that this version knows.

    Args:
        path: A file that [write][gradiometer.detectors.storage.write] made.

    Returns:
        Its header and arrays.

    Raises:
        ArtefactError: No such file, not one of ours, truncated, altered, or of a newer schema.
    """
    source = Path(path)
    if not source.is_file():
        raise ArtefactError(f"there is no file {source}; give the path of a saved detector")
    try:
        with safe_open(source, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            # Weights of a network may be large, and of types that NumPy does not know.
            named = [] if text is None else file.keys()
            tensors = {name: file.get_tensor(name) for name in named}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise ArtefactError(f"{source} is truncated or no safetensors file ({error}); save or copy it again") from error
    try:
        header = json.loads(text or "")
    except (RecursionError, ValueError) as error:
        raise ArtefactError(f"{source} is not a saved detector: it has no readable {_KEY!r} header") from error
    if not isinstance(header, dict) or not isinstance(header.get("schema"), int):
        raise ArtefactError(f"{source} is not a saved detector: its header has no schema version")
    if header["schema"] > SCHEMA:
        raise ArtefactError(
            f"{source} has schema {header['schema']} and this version reads up to {SCHEMA}; upgrade gradiometer"
        )
    names = header.get("tensors", [])
    if not isinstance(names, list):
        raise ArtefactError(f"{source} is not a saved detector: its header does not list its arrays")
    missing = [key for key in _REQUIRED if key not in header] or sorted({*map(str, names)} - {*tensors})
    if missing:
        raise ArtefactError(f"{source} lacks {', '.join(map(repr, missing))}; save the detector again")
    digest = header.pop("digest")
    if digest != _digest(header, tensors):
        raise ArtefactError(f"{source} was altered: its content does not match its digest; save or copy it again")
    return Artefact(header, tensors)


def _digest(header: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
