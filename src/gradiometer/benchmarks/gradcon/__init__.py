"""The benchmark of GradCon: one class normal, abnormal conditions, defects, and costs."""

from __future__ import annotations

from collections.abc import Callable

from gradiometer.benchmarks import records
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.gradcon import classes, condition, cost, measures, tables, tiles
from gradiometer.benchmarks.gradcon.settings import MODELS, PARTS, GradConBench, GradConSettings
from gradiometer.benchmarks.records import Record
from gradiometer.files import write_text

__all__ = ["MODELS", "PARTS", "GradConSettings", "run"]


def run(
    settings: GradConSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Record], None] | None = None,
) -> str:
    """Run the parts that were asked for, and render all tables from all records in the folder.

    Records that are there under the same settings are not made again, and trained networks are kept, so an interrupted
    run continues, and parts can be run one after the other.

    Args:
        settings: What to run.
        progress: Told what is being done.
        finished: Called with each new record.

    Returns:
        The tables in Markdown, as written to `tables.md`.

    Raises:
        InputError: A data set is missing or unusable.
    """
    bench = GradConBench(settings, progress, finished)
    parts: dict[str, Callable[[], None]] = {
        "condition": lambda: condition.run(bench),
        "tiles": lambda: tiles.run(bench),
        "cost": lambda: cost.run(bench),
    }
    for part in settings.parts:
        if part in parts:
            parts[part]()
        else:
            classes.run(bench, part)
    found = records.read(settings.records) if settings.records.exists() else []
    page = tables.to_page(found, measures.read(settings.out / "measures.jsonl"))
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / "tables.md", page)
    return page
