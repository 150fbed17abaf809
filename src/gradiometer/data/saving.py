"""Writing images to a file that can be loaded again."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path

import numpy as np

from gradiometer.data.images import Images
from gradiometer.errors import InputError
from gradiometer.files import write_bytes


def save(images: Images, path: str | PathLike[str]) -> None:
    """Write images to an .npz archive in the layout of MedMNIST, in one step.

    Pixels, labels, class names and base images are kept. The rows are named by the new file when it is loaded.

    Args:
        images: What to write.
        path: Ends in .npz; the folder must exist. What was there is replaced.

    Raises:
        InputError: If the path has another ending, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from gradiometer.data import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(load("digits", limit=20), f"{folder}/few.npz")
        ...     again = load(f"{folder}/few.npz")
        >>> len(again), again.names[3]
        (20, 'few.npz#3')
    """
    target = Path(path)
    if target.suffix.lower() != ".npz":
        raise InputError(f"images are written to .npz, got {target.name}; choose another ending")
    pixels = images.images.cpu().permute(0, 2, 3, 1).numpy()
    arrays = {"images": pixels[..., 0] if pixels.shape[-1] == 1 else pixels, "groups": images.groups.cpu().numpy()}
    if images.labels is not None:
        arrays["labels"] = images.labels.cpu().numpy()
    if images.classes:
        arrays["class_names"] = np.array(images.classes)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{key: np.ascontiguousarray(value) for key, value in arrays.items()}
    )
    write_bytes(target, buffer.getbuffer(), kind=InputError)
