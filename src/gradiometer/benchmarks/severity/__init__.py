"""The benchmark of severity: scores against grades, with all that they have to beat."""

from __future__ import annotations

from collections.abc import Callable

from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.severity import graded, retina, sections, tables
from gradiometer.benchmarks.severity.graded import Graded
from gradiometer.benchmarks.severity.settings import CONTRASTS, PARTS, Bench, SeveritySettings

__all__ = ["CONTRASTS", "PARTS", "SeveritySettings", "run"]


def run(
    settings: SeveritySettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Graded], None] | None = None,
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
    bench = Bench(settings, progress, finished)
    settings.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], None]] = {"retina": lambda: retina.run(bench), "oct": lambda: sections.run(bench)}
    for part in settings.parts:
        parts[part]()
    page = tables.to_page(graded.read(settings.records))
    (settings.out / "tables.md").write_text(page, encoding="utf-8")
    return page
