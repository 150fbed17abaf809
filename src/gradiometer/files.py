"""Writing a file in one step."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside a path, which takes its place when the block ends without an error.

    What was at the path stays until the new file is complete and on the disk, so that no reader and no interruption
    ever meets half of it. Several writers may be at work at once: the last one wins.

    Args:
        path: The file to replace, or to make; its folder must exist.

    Yields:
        Where to write. The file has to be there at the end of the block; after an error it is removed.

    Raises:
        OSError: The file cannot be flushed or moved, or has not been written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "note.txt"
        ...     with replaced(target) as new:
        ...         _ = new.write_text("complete")
        ...     target.read_text(), len(list(target.parent.iterdir()))
        ('complete', 1)
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield new
        with new.open("r+b") as file:
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
