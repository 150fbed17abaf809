"""The unfinished file of scores: grows by whole portions, survives interruption, and is never half a row.

Beside the result `scores.csv` there are, until it is complete, `scores.csv.partial` with the rows so far and
`scores.csv.progress`, which says how many bytes of it count. Bytes beyond that are the remains of an interrupted write
and are cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from gradiometer.errors import ArtefactError, InputError
from gradiometer.files import locked, replaced
from gradiometer.scoring.formats import Format
from gradiometer.scoring.rows import Row

_SCHEMA = 1


@dataclass(frozen=True)
class Tally:
    """What has been written.

    Attributes:
        rows: All rows.
        flagged: Rows that are not trustworthy.
        failures: Rows that could not be scored.
        last: Name of the last row.
        first_failure: Name and reason of the first row that could not be scored, or empty.
        files: Digest of the states of the files that the rows were read from, or empty.
    """

    rows: int = 0
    flagged: int = 0
    failures: int = 0
    last: str = ""
    first_failure: str = ""
    files: str = ""

    @property
    def scored(self) -> int:
        """Rows with a score."""
        return self.rows - self.failures

    def plus(self, rows: Sequence[Row], files: str = "") -> Tally:
        """The tally after some more rows, with the digest of the files of all."""
        failed = [row for row in rows if row.error is not None]
        return Tally(
            rows=self.rows + len(rows),
            flagged=self.flagged + sum(row.trustworthy is False for row in rows),
            failures=self.failures + len(failed),
            last=rows[-1].name if rows else self.last,
            first_failure=self.first_failure or (f"{failed[0].name}: {failed[0].error}" if failed else ""),
            files=files,
        )


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other runs from writing the same result.

    Args:
        out: The result; its folder must exist.

    Raises:
        InputError: If another run is writing it.
        ArtefactError: If the folder cannot be written to.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(out.with_name(f".{out.name}.lock")))
        except BlockingIOError as error:
            raise InputError(f"another run is writing {out}; wait for its end, or choose another file") from error
        except OSError as error:
            raise ArtefactError(f"cannot write {out}: {error.strerror or error}; choose another folder") from error
        yield


class Journal:
    """The file of scores while it is written. A context manager; what was committed stays when it is left.

    Args:
        out: The result.
        form: Its format.
        identity: What must be the same for rows of two runs to belong together.
        restart: Whether to begin again when there are rows of an earlier run.

    Attributes:
        tally: What is in the file.

    Raises:
        InputError: If an unfinished file was made under another identity.
        ArtefactError: If the folder cannot be written to, or the unfinished file is not what its progress says.
    """

    def __init__(self, out: Path, form: Format, identity: Mapping[str, Any], *, restart: bool = False) -> None:
        self.out = out
        self.partial = out.with_name(f"{out.name}.partial")
        self.progress = out.with_name(f"{out.name}.progress")
        self.tally = Tally()
        self._form = form
        self._identity = json.loads(json.dumps(dict(identity)))
        self._bytes = 0
        with self._writing():
            if restart:
                self.progress.unlink(missing_ok=True)
            if self.progress.exists() and self.partial.exists():
                self._resume()
            else:
                self._save_progress(self.tally, 0)
            self._file = self.partial.open("r+b" if self._bytes else "wb", buffering=0)
        with self._writing():
            self._file.truncate(self._bytes)
            self._file.seek(self._bytes)
            if not self._bytes:
                self._append(form.start())

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def commit(self, rows: Sequence[Row], files: str = "") -> None:
        """Write some rows, all or none of them.

        Args:
            rows: The rows.
            files: Digest of the states of the files of all rows up to these.

        Raises:
            ArtefactError: If they cannot be written; the rows before them are intact.
        """
        if not rows:
            return
        tally = self.tally.plus(rows, files)
        with self._writing():
            self._append(self._form.encode(rows))
            self._save_progress(tally, self._bytes)
        self.tally = tally

    def finish(self) -> None:
        """Turn the file into the result.

        Raises:
            ArtefactError: If the result cannot be written; all rows are intact in the unfinished file.
        """
        self._file.close()
        with self._writing():
            self._form.finish(self.partial, self.out)
            self.progress.unlink()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except BaseException:
            # Half a portion must not stay behind, also when the user interrupts just here.
            self._file.truncate(self._bytes)
            self._file.seek(self._bytes)
            raise
        self._bytes += len(data)

    def _save_progress(self, tally: Tally, count: int) -> None:
        state = {"schema": _SCHEMA, "identity": self._identity, "bytes": count, "tally": asdict(tally)}
        with replaced(self.progress) as new:
            new.write_text(json.dumps(state), encoding="utf-8")

    def _resume(self) -> None:
        try:
            state = json.loads(self.progress.read_text(encoding="utf-8"))
            identity, self._bytes = state["identity"], int(state["bytes"])
            self.tally = replace(Tally(), **state["tally"])
            if state["schema"] != _SCHEMA:
                raise ValueError(f"schema {state['schema']}")
        except (ValueError, KeyError, TypeError) as error:
            raise ArtefactError(f"{self.progress} cannot be read ({error}); begin again with restart") from error
        if not self.tally.rows:  # nothing that could belong to another run
            self._bytes = 0
            self._save_progress(self.tally, 0)
            return
        different = sorted(key for key in {*identity, *self._identity} if identity.get(key) != self._identity.get(key))
        if different:
            told = "; ".join(f"{key} was {identity.get(key)!r}, now {self._identity.get(key)!r}" for key in different)
            raise InputError(
                f"{self.partial} was begun with other settings ({told}); give the same ones to continue, another "
                "file, or begin again with restart"
            )
        size = self.partial.stat().st_size
        if size < self._bytes:
            raise ArtefactError(
                f"{self.partial} has {size:,} bytes where {self._bytes:,} were written; begin again with restart"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"{self.tally.rows:,} rows are safe in {self.partial}" if self.tally.rows else "no row was lost"
            raise ArtefactError(
                f"cannot write {self.out}: {error.strerror or error}; {kept}. Make room (or choose another folder) and "
                "run the same again to continue"
            ) from error
