"""Writing a file in one step."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside a path, which takes its place when the block ends without an error.

    What was at the path stays until the new file is complete and on the disk, so that no reader and no interruption
    ever meets half of it. Several writers may be at work at once: the last one wins. Who may read it is as with `open`:
    as before for a file that was there, and what the umask says for a new one, whatever the writer of the block makes.

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
        mode = _mode(path, new)
        if stat.S_IMODE(new.stat().st_mode) != mode:
            new.chmod(mode)
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _mode(path: Path, beside: Path) -> int:
    """The permissions that a file has after `open(path, "w")`."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    # The umask can only be asked for by setting it, for all threads.
    trial = beside.with_suffix(".mode")
    try:
        trial.touch()
        return stat.S_IMODE(trial.stat().st_mode)
    finally:
        trial.unlink(missing_ok=True)
