"""`gradiometer benchmark severity`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradiometer.cli.benchmark.roots import ROOT, root_of
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal
from gradiometer.files import write_text

if TYPE_CHECKING:
    from gradiometer.benchmarks.severity import SeveritySettings


@dataclass(frozen=True, kw_only=True)
class SeverityOptions:
    """Settings of the command: those of `gradiometer.benchmarks.severity.SeveritySettings`."""

    data_root: str | None = option(ROOT, None)
    out: str = option("folder for the records, the tables, the figure and the page", "severity")
    cache: str | None = option("folder for the trained networks; in --out when absent", None)
    parts: tuple[str, ...] = option(
        "retina: graded photographs of the retina; oct: sections with and without fluid; contrastive: encoders "
        "pre-trained by severity labels; olives: biomarkers of OLIVES beside the published figures, with --olives and "
        "--healthy",
        ("retina", "oct", "contrastive"),
    )
    contrasts: tuple[str, ...] = option(
        "what is done to the photographs before any method sees them: local, as-is", ("local", "as-is")
    )
    seeds: tuple[int, ...] = option("of splits, weights and order; each is a training", (0, 1, 2))
    epochs: int = option("passes over the healthy photographs; more continue a training that is there", 100)
    oct_epochs: int = option("passes over the sections without fluid", 20)
    contrastive_epochs: int = option("passes over the photographs in contrastive pre-training", 12)
    olives: str | None = option("folder with the archives of OLIVES and its tables, for the part olives", None)
    healthy: str | None = option("folder of healthy OCT scans, such as OCT2017/train/NORMAL, for the same", None)
    olives_split: int = option("number of the released split of OLIVES, 1 to 3", 1)
    olives_size: int = option("resize scans of OLIVES to so many pixels", 224)
    olives_encoder: str = option("encoder of the scans of OLIVES", "resnet18")
    olives_epochs: int = option("passes over the pool of OLIVES", 25)
    olives_bins: int = option("severity labels of the pool of OLIVES", 5000)
    directions: int = option("dimensions of the score subspace", 20)
    limit: int | None = option("at most so many scans of every set, for a quick look", None)
    draws: int = option("bootstrap resamples behind each interval", 1000)


def run_severity(options: SeverityOptions, terminal: Terminal) -> None:
    """Run the parts, print the tables, draw the figure, write the page."""
    from gradiometer.benchmarks import severity

    out = Path(options.out)
    given = {**asdict(options), "data_root": Path(root_of(options.data_root)), "out": out}
    folders = {name: getattr(options, name) for name in ("cache", "olives", "healthy")}
    given |= {name: None if folder is None else Path(folder) for name, folder in folders.items()}
    settings = severity.SeveritySettings(**given)
    with terminal.progress() as progress:
        page = severity.run(
            settings,
            progress=progress,
            finished=lambda one: terminal.note(
                f"{one.part}, seed {one.seed}: {one.model}, {one.score}, pixels {one.contrast}: "
                + ", ".join(
                    f"{name} {figure.value:.3f}"
                    for name, figure in (("Spearman", one.test.spearman), ("AUROC", one.test.auroc))
                    if figure is not None
                )
            ),
        )
    terminal.show(page)
    terminal.show(f"records: {settings.records}")
    _show_severities(settings, terminal)


def _show_severities(settings: SeveritySettings, terminal: Terminal) -> None:
    """Draw scores against grades, and rank the unlabelled sections on a page, when those parts ran."""
    from gradiometer.benchmarks.severity import retina, sections
    from gradiometer.benchmarks.severity.settings import SeverityBench
    from gradiometer.errors import DependencyError
    from gradiometer.reports import figures, severities
    from gradiometer.severity import SeverityTable

    try:
        table = settings.out / retina.TABLE
        if "retina" in settings.parts and table.exists():
            drawn = figures.by_grade(SeverityTable.read(table), prefix="grades")
            figure = settings.out / "grades.svg"
            write_text(figure, figures.standalone(drawn))
            terminal.show(f"figure: {figure}")
        if "oct" in settings.parts:
            found = sections.load(settings.data_root, settings.limit)
            model = sections.final(SeverityBench(settings), found)
            page = severities.write(model, found.unlabelled, found.dry, settings.out / "unlabelled.html", top=100)
            terminal.show(f"page: {page}: {len(found.unlabelled)} unlabelled sections, the most severe first")
    except DependencyError as error:
        terminal.note(f"no figure and no page: {error}")


COMMAND = Command(
    name="severity",
    summary="scores of healthy scans' auto-encoders against the grades of physicians",
    purpose="""
        Train on healthy scans alone, and see how well scores follow grades: the scores of auto-encoders with
        the gradient constraint and without, beside principal components, a detector on a classifier, and mere
        brightness. Prints rank correlation, weighted kappa and AUROC with intervals, and ranks sections of the
        retina that nobody labelled. Everything is recorded, line by line, in the folder.
    """,
    examples="""
        # both parts, three seeds
        gradiometer benchmark severity --data-root data --out tables/severity

        # graded photographs alone, one seed
        gradiometer benchmark severity --data-root data --parts retina --seeds 0
    """,
    options=SeverityOptions,
    run=run_severity,
    interrupted="trained networks and records are kept, run the same command again to continue",
)
