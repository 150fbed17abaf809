"""Progress of long work in the terminal, gone when the work is done or the output is piped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rich.console
import rich.progress

from gradiometer.benchmarks.evidence import Progress


@contextmanager
def shown(console: rich.console.Console | None = None) -> Iterator[Progress]:
    """Bars on the error stream, one for each kind of work.

    Args:
        console: Where to draw; the error stream when None.

    Yields:
        A function to call with what is being done, the units done, and the units in all.
    """
    target = rich.console.Console(stderr=True) if console is None else console
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=target, transient=True, disable=not target.is_terminal) as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield progress
