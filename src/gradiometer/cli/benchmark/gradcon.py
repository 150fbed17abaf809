"""`gradiometer benchmark gradcon`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from gradiometer.cli.benchmark.roots import ROOT, root_of
from gradiometer.cli.command import Command, option
from gradiometer.cli.terminal import Terminal
from gradiometer.files import write_text


@dataclass(frozen=True, kw_only=True)
class GradConOptions:
    """Settings of the command: those of `gradiometer.benchmarks.gradcon.GradConSettings`."""

    data_root: str | None = option(ROOT, None)
    out: str = option("folder for the records, the tables and the figure", "gradcon")
    cache: str | None = option("folder for the trained networks; in --out when absent", None)
    parts: tuple[str, ...] = option(
        "data sets of which each class is normal once; condition: signs under corruptions; tiles: magnetic tiles with "
        "defects; cost",
        ("cifar10", "mnist", "fashion_mnist", "condition", "tiles", "cost"),
    )
    models: tuple[str, ...] = option(
        "networks: cae or vae, alone or with +grad (the published constraint), +recent (an exponential mean), +late or "
        "+untrained (random weights)",
        ("cae", "cae+grad", "vae", "vae+grad"),
    )
    scores: tuple[str, ...] = option("names of the scores to make, such as whitened; all when absent", ())
    labels: tuple[int, ...] = option("numbers of the classes that are normal once; all when absent", ())
    signs: str = option("data set of the part condition, with a training and a test split", "gtsrb")
    seeds: tuple[int, ...] = option("of splits, weights and order; each is a training", (0,))
    epochs: int = option("passes over the training images; more continue a training that is there", 40)
    tile_size: int = option("resize magnetic tiles to so many pixels", 64)
    fit_images: int = option("training images that densities are fitted on", 2000)
    limit: int | None = option("at most so many images of every set, for a quick look", None)
    draws: int = option("bootstrap resamples behind each interval", 1000)


def run_gradcon(options: GradConOptions, terminal: Terminal) -> None:
    """Run the parts, print the tables."""
    from gradiometer.benchmarks import gradcon

    out = Path(options.out)
    given = {**asdict(options), "data_root": Path(root_of(options.data_root)), "out": out}
    settings = gradcon.GradConSettings(**given | {"cache": None if options.cache is None else Path(options.cache)})
    with terminal.progress() as progress:
        page = gradcon.run(
            settings,
            progress=progress,
            finished=lambda record: terminal.note(
                f"{record.known}, {record.challenge}: {record.model}, {record.detector}: AUROC "
                f"{record.metrics.auroc.value:.3f}"
            ),
        )
    terminal.show(page)
    terminal.show(f"records: {settings.records}")
    if settings.records.exists():
        _draw(settings.records, out, terminal)


def _draw(found: Path, out: Path, terminal: Terminal) -> None:
    """Draw the curves of the corrupted signs, and CIFAR-10 class by class, if they are there."""
    from gradiometer.benchmarks import records
    from gradiometer.benchmarks.gradcon import tables
    from gradiometer.errors import DependencyError
    from gradiometer.reports import classes, figures

    read = records.read(found)
    curves, profiles = tables.curves(read), tables.profiles(read)
    try:
        drawn = {"condition.svg": figures.levels(curves, prefix="condition")} if curves else {}
        if len(profiles) > 1:
            drawn["classes.svg"] = classes.by_class(profiles, prefix="classes")
    except DependencyError as error:
        terminal.note(f"no figure was drawn: {error}")
        return
    for name, figure in drawn.items():
        write_text(out / name, figures.standalone(figure))
        terminal.show(f"figure: {out / name}")


COMMAND = Command(
    name="gradcon",
    summary="auto-encoders of normal images, with the gradient constraint and without",
    purpose="""
        Train auto-encoders of normal images and score what is not normal: each class of a data set against the
        others beside the published figures, traffic signs under corruptions, magnetic tiles with defects by
        image and by pixel, and the costs. Everything is recorded, line by line, in the folder.
    """,
    examples="""
        # the published table for the constrained network, as far as an evening goes
        gradiometer benchmark gradcon --data-root data --parts cifar10 --models cae+grad --epochs 40

        # defects, and nothing else
        gradiometer benchmark gradcon --data-root data --parts tiles --models cae cae+grad --out tables/tiles
    """,
    options=GradConOptions,
    run=run_gradcon,
    interrupted="trained networks and records are kept, run the same command again to continue",
)
