"""The benchmark of severity: scores against grades, with all that they have to beat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradiometer.benchmarks import probes
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.parts import RECORDS
from gradiometer.benchmarks.rendering import to_markdown
from gradiometer.benchmarks.severity import contrastive, graded, olives, retina, sections, tables
from gradiometer.benchmarks.severity.graded import Graded
from gradiometer.benchmarks.severity.settings import CONTRASTS, PARTS, SeverityBench, SeveritySettings
from gradiometer.files import write_text

__all__ = ["CONTRASTS", "PARTS", "SeveritySettings", "render", "run"]


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
    bench = SeverityBench(settings, progress, finished)
    settings.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], None]] = {
        "retina": lambda: retina.run(bench),
        "oct": lambda: sections.run(bench),
        "contrastive": lambda: contrastive.run(bench),
        "olives": lambda: olives.run(bench),
    }
    for part in settings.parts:
        parts[part]()
    page = render(settings.out)
    write_text(settings.out / "tables.md", page)
    return page


def render(folder: Path) -> str:
    """All tables in Markdown, each under its title, from the records of a folder.

    Args:
        folder: Where the benchmark wrote them.
    """
    made = tables.arrange(graded.read(folder / RECORDS))
    found = probes.read(folder / contrastive.RECORDS)
    for data in dict.fromkeys(record.data for record in found):
        made += probes.tables([record for record in found if record.data == data])
    made += olives.tables(probes.read(folder / olives.RECORDS))
    return "\n".join(f"**{table.title}**\n\n{to_markdown(table)}" for table in made)
