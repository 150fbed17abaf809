"""What a command says: results on standard output, everything else on the error stream."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO

from rich.console import Console, RenderableType

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many units of it are done, and how many there are."""


_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, where no window breaks its lines."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What steers a terminal. Names of files may hold it, and would clear the screen or write over what was said."""


class Terminal:
    """Both streams of a command.

    Attributes:
        out: Standard output: results.
        err: The error stream: notes, progress, warnings, errors.
    """

    def __init__(self) -> None:
        self.out = _console()
        self.err = _console(stderr=True)

    def show(self, result: RenderableType) -> None:
        """Print a table or another result; text comes out as it is."""
        harmless = _harmless(result) if isinstance(result, str) else result
        self.out.print(harmless, markup=False, soft_wrap=isinstance(result, str))

    def note(self, text: str) -> None:
        """Print a line that is not a result."""
        self.err.print(_harmless(text), markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        """Print an error in one line."""
        self.err.print(f"gradiometer: error: {_harmless(text)}", markup=False, soft_wrap=True, style="red")

    def warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Print a warning in one line; takes the place of `warnings.showwarning`."""
        del filename, lineno, file, line
        kind = "warning" if issubclass(category, UserWarning) else f"warning ({category.__name__})"
        text = _harmless(" ".join(str(message).split()))
        self.err.print(f"gradiometer: {kind}: {text}", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Bars on the error stream, one for each kind of work; none when it is not a terminal.

        Yields:
            A function to call with what is being done, the units done, and the units in all.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bars(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as bars:
            tasks: dict[str, TaskID] = {}

            def progress(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total, visible=done < total)

            yield progress


def _harmless(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, TextIOWrapper):
        # What a stream of eight bits cannot say (names of files, bars of a table) is a question mark, and no crash.
        stream.reconfigure(errors="replace")
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    return console
