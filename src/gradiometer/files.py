"""Writing a file in one step, and alone."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradiometer.errors import ArtefactError, GradiometerError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


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


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, as UTF-8.

    Args:
        path: The file to replace, or to make; its folder must exist.
        text: What will be in it.

    Raises:
        ArtefactError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder) / "note.txt", "complete")
        ...     (Path(folder) / "note.txt").read_text()
        'complete'
    """
    with _told(path, str(path), ArtefactError) as new:
        new.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes | memoryview, kind: type[GradiometerError] = ArtefactError) -> None:
    """Write a file in one step.

    Args:
        path: The file to replace, or to make; its folder must exist.
        data: What will be in it.
        kind: The error that is raised.

    Raises:
        ArtefactError: The file cannot be written, unless the error is of another kind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(Path(folder) / "pixels", bytes(3))
        ...     (Path(folder) / "pixels").stat().st_size
        3
    """
    with _told(path, f"{len(data):,} bytes to {path}", kind) as new:
        new.write_bytes(data)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that only one process or thread holds at a time.

    The lock is the operating system's: it ends with the process that holds it, however that ends, and the file that a
    killed process leaves behind stands in nobody's way. Where there are no such locks (Windows, some network drives)
    nothing is locked.

    Args:
        path: File of the lock; it is made, and removed at the end. Its folder must exist.

    Raises:
        BlockingIOError: Somebody else holds it.
        OSError: The file cannot be made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with locked(Path(folder) / "lock"):
        ...         print([file.name for file in Path(folder).iterdir()])
        ['lock']
    """
    if fcntl is None:
        yield
        return
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
            if not _is_open_at(path, file.fileno()):
                continue  # whoever held it has removed the file just now: the lock of another one counts
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            return


@contextmanager
def _told(path: Path, what: str, kind: type[GradiometerError]) -> Iterator[Path]:
    """A new file as `replaced` has it, and an error of ours when it cannot be."""
    try:
        with replaced(path) as new:
            yield new
    except OSError as error:
        kept = "nothing was written"
        with suppress(OSError):  # of a name that is too long, nobody can say whether there is such a file
            kept = "the file that was there is untouched" if path.is_file() else kept
        raise kind(
            f"could not write {what} ({error.strerror or error}); {kept}. Make room, or choose another folder"
        ) from error


def _is_open_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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
