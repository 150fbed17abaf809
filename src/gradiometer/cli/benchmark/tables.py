"""`gradiometer benchmark ood | attacks | corruptions | mistakes | null | all`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli.artefacts import MODEL
from gradiometer.cli.benchmark.roots import ROOT, root_of
from gradiometer.cli.command import Command, option
from gradiometer.cli.demo import publish
from gradiometer.cli.terminal import Terminal

if TYPE_CHECKING:
    from gradiometer.benchmarks.loading import TableSettings
    from gradiometer.benchmarks.outcome import Outcome

OUT = "folder for records, readings, finished cells, tables, figures and the page"
SETS = ("street_chars", "tiny_imagenet", "scenes", "gtsrb", "mnist", "fashion_mnist", "cifar100")
_ATTACKS = ("fgsm", "bim", "pgd", "carlini_wagner", "least_likely", "negative", "colour_shift")
_TYPES = ("Noise", "LensBlur", "GaussianBlur", "DirtyLens", "Exposure", "Snow", "Haze", "Decolor")
_DAMAGES = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
CONTINUES = "readings and finished cells are kept in the folder, run the same command again to continue"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Settings of every table: those of `gradiometer.benchmarks.loading.TableSettings`."""

    data_root: str | None = option(ROOT, None)
    model: str = option(MODEL, "resnet20-cifar10")
    known: str = option(
        "data set that the model was trained on, with a training and a test split; one without is divided 60 to 40",
        "cifar10",
    )
    size: int | None = option("resize images to SIZE x SIZE pixels; the size of the model when absent", None, least=1)
    channels: int | None = option("1 for grey, 3 for colour; those of the model when absent", None, least=1)
    fit_images: int = option("training images that detectors are fitted on", 5000)
    fit_unseen: bool = option("fit on test images that --limit leaves instead, on which it was not trained", False)
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

    challenges: tuple[str, ...] = option("data sets that it was not trained for", SETS)
    jpeg: int | None = option("quality at which known images are compressed, as a control for JPEG; none if absent", 75)
    out: str = option(OUT, "ood")


@dataclass(frozen=True, kw_only=True)
class AttackOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.attacks.AttackSettings`."""

    attacks: tuple[str, ...] = option(f"attacks: {', '.join(_ATTACKS)}", _ATTACKS)
    confidence: float = option("of Carlini and Wagner's attack; above 0 its changes survive storing in 8 bits", 2.0)
    trials: int = option("of the shift of colours, for each image", 1000)
    unfiltered: bool = option("a second row for each attack, with all images (true or false)", True)
    input_step: bool = option("Mahalanobis with an input step too, fifteen passes an image (true or false)", True)
    attack_batch: int = option("images that are attacked at once", 100)
    out: str = option(OUT, "attacks")


@dataclass(frozen=True, kw_only=True)
class CorruptionOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.corruptions.CorruptionSettings`."""

    reading: str = option("what the eight published names stand for: cifar10c or cure", "cifar10c")
    types: tuple[str, ...] = option("which of the eight", _TYPES)
    levels: tuple[int, ...] = option("which levels from 1 to 5", (1, 2, 3, 4, 5))
    transfer_level: int = option("the level that detectors are trained and tested on for transfer", 3)
    out: str = option(OUT, "corruptions")


@dataclass(frozen=True, kw_only=True)
class MistakeOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.mistakes.MistakeSettings`."""

    protocols: tuple[str, ...] = option("known-only, matched and transfer, or fewer of them", ("known-only", "matched"))
    types: tuple[str, ...] = option("corruptions of CIFAR-10-C by name, under which the same is asked", _DAMAGES)
    levels: tuple[int, ...] = option("which of their levels from 1 to 5", (3,))
    out: str = option(OUT, "mistakes")


@dataclass(frozen=True, kw_only=True)
class NullOptions(TableOptions):
    """Settings of the command: those of `gradiometer.benchmarks.null.NullSettings`."""

    challenges: tuple[str, ...] = option("data sets to test besides the known one", SETS)
    out: str = option(OUT, "null")


@dataclass(frozen=True, kw_only=True)
class AllOptions(TableOptions):
    """Settings that all tables share."""

    out: str = option("folder with a folder for each table", "tables")


def run_ood(options: OodOptions, terminal: Terminal) -> None:
    """Run the comparison, print the tables, write the page."""
    from gradiometer.benchmarks import ood

    _compare(ood.run, ood.OodSettings(**given(options)), terminal)


def run_attacks(options: AttackOptions, terminal: Terminal) -> None:
    """Attack and compare, print the tables, write the page."""
    from gradiometer.benchmarks import attacks

    _compare(attacks.run, attacks.AttackSettings(**given(options)), terminal)


def run_corruptions(options: CorruptionOptions, terminal: Terminal) -> None:
    """Corrupt and compare, print the tables, write the page."""
    from gradiometer.benchmarks import corruptions

    _compare(corruptions.run, corruptions.CorruptionSettings(**given(options)), terminal)


def run_mistakes(options: MistakeOptions, terminal: Terminal) -> None:
    """Tell wrong predictions from right ones, print the tables, write the page."""
    from gradiometer.benchmarks import mistakes

    _compare(mistakes.run, mistakes.MistakeSettings(**given(options)), terminal)


def run_null(options: NullOptions, terminal: Terminal) -> None:
    """Run the null tests and print their table."""
    from gradiometer.benchmarks import null, tables
    from gradiometer.reports import files

    settings = null.NullSettings(**given(options))
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


def given(options: TableOptions) -> dict[str, Any]:
    """The options as settings of Python."""
    settings = asdict(options)
    places = {"data_root": Path(root_of(options.data_root)), "out": Path(settings["out"])}
    return settings | places


def _compare(run: Callable[..., Outcome], settings: TableSettings, terminal: Terminal) -> None:
    with terminal.progress() as progress:
        outcome = run(settings, progress=progress)
    write(outcome, settings.out, terminal)


def write(outcome: Outcome, out: Path, terminal: Terminal) -> None:
    """Print the tables, write them in all forms, and the page."""
    from gradiometer.reports import files

    files.write_tables(outcome.records, outcome.differences, out)
    publish(outcome, out / "report.html", out / "records.jsonl", terminal, all_figures=True)
    files.write_figures(outcome, out, terminal.note)


COMMANDS = (
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
        interrupted=CONTINUES,
    ),
    Command(
        name="attacks",
        summary="seven attacks on the network, beside equally noisy images",
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
        interrupted=CONTINUES,
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
        interrupted=CONTINUES,
    ),
    Command(
        name="mistakes",
        summary="is the prediction wrong? Right against wrong predictions",
        purpose="""
            Which predictions of a trained network about its own test images are wrong, and which detectors notice: of
            the images as they are, and of corrupted ones. Known are the images that it is right about, the challenge
            are the others, in their true proportion; matched detectors learn from half of the images which they are.
            Prints the area under the risk-coverage curve and the accuracy of the predictions that are kept too. The
            known set needs labels.
        """,
        examples="""
            # can the predictions of the shipped model be trusted?
            gradiometer benchmark mistakes --data-root data --out tables/mistakes

            # another network, two corruptions at two levels, known-only detectors alone
            gradiometer benchmark mistakes --data-root data --model runs/mine --known photos \\
                --types jpeg_compression fog --levels 1 3 --protocols known-only
        """,
        options=MistakeOptions,
        run=run_mistakes,
        interrupted=CONTINUES,
    ),
    Command(
        name="null",
        summary="two halves of every data set, between which nobody may tell",
        purpose="""
            Store one half of a data set again, load it like a challenge, and let every detector try to tell it from
            the other half. A detector that can reads traces of the handling, and the command fails.
        """,
        examples="""
            # every data set at hand
            gradiometer benchmark null --data-root data --out tables/null

            # photographs of yours, on a network of yours
            gradiometer benchmark null --data-root data --model runs/mine --known photos --challenges sketches
        """,
        options=NullOptions,
        run=run_null,
        interrupted=CONTINUES,
    ),
    Command(
        name="all",
        summary="null test, ood, attacks and corruptions in both readings, one after the other",
        purpose="""
            All tables on one network, each in a folder of its own, with the settings that they share.
        """,
        examples="""
            # all tables of the shipped model
            gradiometer benchmark all --data-root data --limit 2000 --out tables

            # what needs no challenge in training, alone
            gradiometer benchmark all --data-root data --limit 2000 --protocols known-only --out tables
        """,
        options=AllOptions,
        run=run_all,
        interrupted=CONTINUES,
    ),
)
