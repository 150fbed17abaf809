"""`gradiometer demo`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradiometer.cli.artefacts import check_folder
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal

if TYPE_CHECKING:
    from gradiometer.benchmarks.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the command: those of `gradiometer.benchmarks.demo.DemoSettings`."""

    out: str = option("the report; records go beside it, with the ending .jsonl", "demo-report.html")
    images: int = option("images of each challenge that is not made from digits", 900)
    epochs: int = option("passes over the training digits", 30)
    seed: int = option("of everything that is drawn", 0)
    draws: int = option("bootstrap resamples behind each interval", 1000)
    false_alarm_rate: float = option("share of known images that may be flagged", 0.05)
    neighbours: int = option("k of the density of known images", 10)
    limit: int | None = option("at most so many digits, for a quick look", None)


def run(options: Options, terminal: Terminal) -> None:
    """Run the demonstration, print the tables, write the report."""
    out = Path(options.out)
    check_folder(out)
    from gradiometer.benchmarks import demo

    with terminal.progress() as progress:
        outcome = demo.run(demo.DemoSettings(**{**asdict(options), "out": out}), progress=progress)
    publish(outcome, out, out.with_suffix(".jsonl"), terminal, all_figures=False)


def publish(outcome: Outcome, page: Path, records: Path, terminal: Terminal, *, all_figures: bool) -> None:
    """Print the tables of a benchmark and write its page. The records are on disk by then, page or not."""
    from gradiometer.benchmarks import tables
    from gradiometer.errors import DependencyError
    from gradiometer.reports.page import write

    tables.show(outcome.records, terminal.out, all_figures=all_figures)
    terminal.show(f"records: {records}")
    try:
        terminal.show(f"report: {write(outcome, page)}")
    except DependencyError as error:
        terminal.note(f"no report was written: {error}")


COMMAND = Command(
    name="demo",
    summary="see it work on real digits, in two minutes",
    purpose="""
        Train a small network on the handwritten digits that come with scikit-learn, then show it things that are no
        digits: letters, photographs, textures, noise, blur, and an attack. Prints how well each detector tells them
        apart and how many digits raise a false alarm, and writes a report with pictures. Needs no download.
    """,
    examples="""
        # the table and demo-report.html
        gradiometer demo

        # another seed, another file
        gradiometer demo --seed 1 --out second.html
    """,
    options=Options,
    run=run,
)
