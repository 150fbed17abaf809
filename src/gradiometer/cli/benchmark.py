"""`gradiometer benchmark`."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli.artefacts import MODEL
from gradiometer.cli.command import Command, option
from gradiometer.cli.demo import publish
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.benchmarks.outcome import Outcome
    from gradiometer.benchmarks.severity import SeveritySettings


_ROOT = "folder with the data sets, NAME.npz each; the environment variable GRADIOMETER_DATA_ROOT when absent"
_OUT = "folder for records, readings, finished cells, tables, figures and the page"
_OOD = ("street_chars", "tiny_imagenet", "scenes", "gtsrb", "mnist", "fashion_mnist", "cifar100")
_ATTACKS = ("fgsm", "bim", "pgd", "carlini_wagner", "least_likely", "negative", "colour_shift")
_TYPES = ("Noise", "LensBlur", "GaussianBlur", "DirtyLens", "Exposure", "Snow", "Haze", "Decolor")
_CONTINUES = "readings and finished cells are kept in the folder, run the same command again to continue"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Settings of every table: those of `gradiometer.benchmarks.loading.TableSettings`."""

    data_root: str | None = option(_ROOT, None)
    model: str = option(MODEL, "resnet20-cifar10")
    known: str = option(
        "data set that the model was trained on, with a training and a test split; one without is divided 60 to 40",
        "cifar10",
    )
    size: int | None = option("resize images to SIZE x SIZE pixels; the size of the model when absent", None)
    channels: int | None = option("1 for grey, 3 for colour; those of the model when absent", None)
    fit_images: int = option("training images that detectors are fitted on", 5000)
    limit: int | None = option("at most so many test images of every set", None)
    protocols: tuple[str, ...] = option(
        "known-only, matched and transfer, or fewer of them", ("known-only", "matched", "transfer")
    )
    detectors: tuple[str, ...] = option("known-only detectors by name, Guard among them; all when absent", ())
    seed: int = option("of splits, known-only detectors and bootstrap", 0)
    seeds: tuple[int, ...] = option("of the matched detectors, whose figures are means over these", (0, 1, 2))
    draws: int = option("bootstrap resamples behind each interval", 1000)
    false_alarm_rate: float = option("share of known images that may be flagged", 0.05)
    neighbours: int = option("k of the densities", 10)
    batch_size: int = option("images that go through the model at once", 128)
    memory: str | None = option("working memory of the gradients, such as 512MiB", None)
    keep_readings: bool = option("keep readings, so that an interrupted run continues (true or false)", True)


@dataclass(frozen=True, kw_only=True)
class OodOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.ood.OodSettings`."""

    challenges: tuple[str, ...] = option("data sets that it was not trained for", _OOD)
    jpeg: int | None = option("quality at which known images are compressed, as a control for JPEG; none if absent", 75)
    out: str = option(_OUT, "ood")


@dataclass(frozen=True, kw_only=True)
class AttackOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.attacks.AttackSettings`."""

    attacks: tuple[str, ...] = option(f"attacks: {', '.join(_ATTACKS)}", _ATTACKS)
    confidence: float = option("of Carlini and Wagner's attack; above 0 its changes survive storing in 8 bits", 2.0)
    trials: int = option("of the shift of colours, for each image", 1000)
    unfiltered: bool = option("a second row for each attack, with all images (true or false)", True)
    input_step: bool = option("Mahalanobis with an input step too, fifteen passes an image (true or false)", True)
    attack_batch: int = option("images that are attacked at once", 100)
    out: str = option(_OUT, "attacks")


@dataclass(frozen=True, kw_only=True)
class CorruptionOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.corruptions.CorruptionSettings`."""

    reading: str = option("what the eight published names stand for: cifar10c or cure", "cifar10c")
    types: tuple[str, ...] = option("which of the eight", _TYPES)
    levels: tuple[int, ...] = option("which levels from 1 to 5", (1, 2, 3, 4, 5))
    transfer_level: int = option("the level that detectors are trained and tested on for transfer", 3)
    out: str = option(_OUT, "corruptions")


@dataclass(frozen=True, kw_only=True)
class NullOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.null.NullSettings`."""

    challenges: tuple[str, ...] = option("data sets to test besides the known one", _OOD)
    out: str = option(_OUT, "null")


@dataclass(frozen=True, kw_only=True)
class AllOptions(TableOptions):
    """Settings that all tables share."""

    out: str = option("folder with a folder for each table", "tables")


@dataclass(frozen=True, kw_only=True)
class GradConOptions:
    """Settings of the command: those of `gradiometer.benchmarks.gradcon.GradConSettings`."""

    data_root: str | None = option(
        "folder with the data sets, NAME.npz each; the environment variable GRADIOMETER_DATA_ROOT when absent", None
    )
    out: str = option("folder for the records, the tables and the figure", "gradcon")
    cache: str | None = option("folder for the trained networks; in --out when absent", None)
    parts: tuple[str, ...] = option(
        "data sets of which each class is normal once; condition: signs under corruptions; tiles: magnetic tiles with "
        "defects; cost",
        ("cifar10", "mnist", "fashion_mnist", "condition", "tiles", "cost"),
    )
    models: tuple[str, ...] = option(
        "networks, with the constraint (+grad) or without", ("cae", "cae+grad", "vae", "vae+grad")
    )
    labels: tuple[int, ...] = option("numbers of the classes that are normal once; all when absent", ())
    signs: str = option("data set of the part condition, with a training and a test split", "gtsrb")
    seeds: tuple[int, ...] = option("of splits, weights and order; each is a training", (0,))
    epochs: int = option("passes over the training images; more continue a training that is there", 40)
    tile_size: int = option("resize magnetic tiles to so many pixels", 64)
    fit_images: int = option("training images that densities are fitted on", 2000)
    limit: int | None = option("at most so many images of every set, for a quick look", None)
    draws: int = option("bootstrap resamples behind each interval", 1000)


@dataclass(frozen=True, kw_only=True)
class SeverityOptions:
    """Settings of the command: those of `gradiometer.benchmarks.severity.SeveritySettings`."""

    data_root: str | None = option(
        "folder with the data sets, NAME.npz each; the environment variable GRADIOMETER_DATA_ROOT when absent", None
    )
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
    given = {**asdict(options), "data_root": Path(_root(options.data_root)), "out": out}
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
    from gradiometer.benchmarks.severity.settings import Bench
    from gradiometer.errors import DependencyError
    from gradiometer.reports import figures, severities
    from gradiometer.severity import SeverityTable

    try:
        table = settings.out / retina.TABLE
        if "retina" in settings.parts and table.exists():
            drawn = figures.by_grade(SeverityTable.read(table), prefix="grades")
            figure = settings.out / "grades.svg"
            figure.write_text(figures.standalone(drawn), encoding="utf-8")
            terminal.show(f"figure: {figure}")
        if "oct" in settings.parts:
            found = sections.load(settings.data_root, settings.limit)
            model = sections.final(Bench(settings), found)
            page = severities.write(model, found.unlabelled, found.dry, settings.out / "unlabelled.html", top=100)
            terminal.show(f"page: {page}: {len(found.unlabelled)} unlabelled sections, the most severe first")
    except DependencyError as error:
        terminal.note(f"no figure and no page: {error}")


def run_gradcon(options: GradConOptions, terminal: Terminal) -> None:
    """Run the parts, print the tables."""
    from gradiometer.benchmarks import gradcon

    out = Path(options.out)
    given = {**asdict(options), "data_root": Path(_root(options.data_root)), "out": out}
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
    _draw_condition(settings.records, out / "condition.svg", terminal)


def _draw_condition(found: Path, path: Path, terminal: Terminal) -> None:
    """Draw the curves of the corrupted signs, if there are any."""
    from gradiometer.benchmarks import records
    from gradiometer.benchmarks.gradcon import tables
    from gradiometer.errors import DependencyError
    from gradiometer.reports import figures

    curves = tables.curves(records.read(found)) if found.exists() else {}
    if not curves:
        return
    try:
        path.write_text(figures.standalone(figures.levels(curves, prefix="condition")), encoding="utf-8")
    except DependencyError as error:
        terminal.note(f"no figure was drawn: {error}")
    else:
        terminal.show(f"figure: {path}")


def _root(given: str | None) -> str:
    root = given or os.environ.get("GRADIOMETER_DATA_ROOT")
    if not root:
        raise InputError("where are the data sets? Give their folder with --data-root or in GRADIOMETER_DATA_ROOT")
    return root


def run_ood(options: OodOptions, terminal: Terminal) -> None:
    """Run the comparison, print the tables, write the page."""
    from gradiometer.benchmarks import ood

    settings = ood.OodSettings(**_given(options))
    with terminal.progress() as progress:
        outcome = ood.run(settings, progress=progress)
    _write(outcome, settings.out, terminal)


def run_attacks(options: AttackOptions, terminal: Terminal) -> None:
    """Attack and compare, print the tables, write the page."""
    from gradiometer.benchmarks import attacks

    settings = attacks.AttackSettings(**_given(options))
    with terminal.progress() as progress:
        outcome = attacks.run(settings, progress=progress)
    _write(outcome, settings.out, terminal)


def run_corruptions(options: CorruptionOptions, terminal: Terminal) -> None:
    """Corrupt and compare, print the tables, write the page."""
    from gradiometer.benchmarks import corruptions

    settings = corruptions.CorruptionSettings(**_given(options))
    with terminal.progress() as progress:
        outcome = corruptions.run(settings, progress=progress)
    _write(outcome, settings.out, terminal)


def run_null(options: NullOptions, terminal: Terminal) -> None:
    """Run the null tests and print their table."""
    from gradiometer.benchmarks import null, tables
    from gradiometer.reports import files

    settings = null.NullSettings(**_given(options))
    with terminal.progress() as progress:
        found = null.run(settings, progress=progress)
    tables.show(found, terminal.out)
    files.write_tables(found, (), settings.out)
    terminal.show(f"records: {settings.out / 'records.jsonl'}")


def run_all(options: AllOptions, terminal: Terminal) -> None:
    """One table after the other, each in its folder."""
    shared = {entry.name: getattr(options, entry.name) for entry in fields(TableOptions)}
    out = Path(options.out)
    run_null(NullOptions(**shared, out=str(out / "null")), terminal)
    run_ood(OodOptions(**shared, out=str(out / "ood")), terminal)
    run_attacks(AttackOptions(**shared, out=str(out / "attacks")), terminal)
    for reading in ("cifar10c", "cure"):
        folder = str(out / f"corruptions-{reading}")
        run_corruptions(CorruptionOptions(**shared, reading=reading, out=folder), terminal)


def _given(options: TableOptions) -> dict[str, Any]:
    """The options as settings of Python."""
    given = asdict(options)
    places = {"data_root": Path(_root(options.data_root)), "out": Path(given["out"])}
    return given | places | {"detectors": options.detectors or None}


def _write(outcome: Outcome, out: Path, terminal: Terminal) -> None:
    """Print the tables, write them in all forms, and the page."""
    from gradiometer.reports import files

    files.write_tables(outcome.records, outcome.differences, out)
    publish(outcome, out / "report.html", out / "records.jsonl", terminal, all_figures=True)
    files.write_figures(outcome, out, terminal.note)


COMMAND = Command(
    name="benchmark",
    summary="compare detectors on challenges, with intervals",
    purpose="Tables of detectors against challenges, under protocols that say what each detector was allowed to see.",
    examples="""
        gradiometer benchmark ood --data-root data
        gradiometer benchmark attacks --data-root data --limit 2000
        gradiometer benchmark all --data-root data --limit 2000 --out tables
        gradiometer benchmark gradcon --data-root data --parts tiles
        gradiometer benchmark severity --data-root data
    """,
    children=(
        Command(
            name="ood",
            summary="whole data sets that the network was not trained for",
            purpose="""
                A trained network, its own test images, and data sets that it was not trained for. Prints AUROC, AUPR,
                detection accuracy and TNR at 95 % TPR with bootstrap intervals for Guard, Purview, their forward-only
                controls and the usual baselines, and the false-alarm rate on unseen known images. The null test comes
                first: known images stored again must not be told apart. Everything is recorded, line by line, in the
                folder.
            """,
            examples="""
                # the first table, with the shipped model
                gradiometer benchmark ood --data-root data --out tables/ood

                # another network, other challenges, a quick look
                gradiometer benchmark ood --data-root data --model runs/mine --known photos \\
                    --challenges textures sketches --limit 500
            """,
            options=OodOptions,
            run=run_ood,
            interrupted=_CONTINUES,
        ),
        Command(
            name="attacks",
            summary="six attacks on the network, beside equally noisy images",
            purpose="""
                Attack the test images of a trained network and see which detectors notice. Known are the originals and
                equally noisy ones; only rows count for which the network is right about both and wrong about the
                attacked image. Prints the published figures beside ours, how often each attack succeeded, and what a
                detector that learnt one attack makes of the others. Needs the extra `attacks`.
            """,
            examples="""
                # the second table, with the shipped model
                gradiometer benchmark attacks --data-root data --limit 2000 --out tables/attacks

                # two attacks, known-only detectors alone
                gradiometer benchmark attacks --data-root data --attacks fgsm pgd --protocols known-only
            """,
            options=AttackOptions,
            run=run_attacks,
            interrupted=_CONTINUES,
        ),
        Command(
            name="corruptions",
            summary="eight corruptions at five levels",
            purpose="""
                Corrupt the test images of a trained network in the eight ways of the published table, at five levels,
                and see which detectors notice. The names of that table are read as corruptions of CIFAR-10-C or in the
                manner of CURE-TSR. Prints the published figures beside ours.
            """,
            examples="""
                # the third table, with the shipped model
                gradiometer benchmark corruptions --data-root data --limit 1000 --out tables/corruptions

                # traffic signs in the manner of CURE-TSR
                gradiometer benchmark corruptions --data-root data --model runs/signs --known gtsrb --reading cure
            """,
            options=CorruptionOptions,
            run=run_corruptions,
            interrupted=_CONTINUES,
        ),
        Command(
            name="null",
            summary="two halves of every data set, between which nobody may tell",
            purpose="""
                Store one half of a data set again, load it like a challenge, and let every detector try to tell it from
                the other half. A detector that can reads traces of the handling, and the command fails.
            """,
            examples="""
                gradiometer benchmark null --data-root data --out tables/null
            """,
            options=NullOptions,
            run=run_null,
            interrupted=_CONTINUES,
        ),
        Command(
            name="all",
            summary="null test, ood, attacks and corruptions in both readings, one after the other",
            purpose="""
                All tables on one network, each in a folder of its own, with the settings that they share.
            """,
            examples="""
                gradiometer benchmark all --data-root data --limit 2000 --out tables
            """,
            options=AllOptions,
            run=run_all,
            interrupted=_CONTINUES,
        ),
        Command(
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
        ),
        Command(
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
        ),
    ),
)
