"""`gradiometer score`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.scoring import Summary


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    detector: str = option("file that fit and calibrate wrote")
    images: str = option(
        "a folder, FILE.npz or FILE.parquet, or the name of an .npz file in --data-root; with :SPLIT for its split"
    )
    out: str = option("file of the scores, ending in .parquet, .csv or .jsonl")
    shard: str = option(
        "part of the images, for several machines: 2/8 is the second eighth; the files of all parts, in order, hold "
        "the rows of the whole",
        "1/1",
    )
    overwrite: bool = option("replace the file of the scores if it is there", False)
    restart: bool = option("begin again instead of continuing an interrupted run", False)
    model: str | None = option("the model, if it is elsewhere now; the one that fit noted when absent", None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Score and say what was found."""
    from gradiometer import scoring

    shard, named = _shard(options.shard), sources.parse_whole(options.images, "score reads")
    detector, origin = artefacts.load_calibrated(options.detector, options.model, options.device, options.out)
    with terminal.progress() as progress:
        summary = scoring.score(
            detector,
            named.source,
            options.out,
            size=options.size or origin.size,
            channels=options.channels or origin.channels,
            split=named.split,
            root=options.root,
            download=options.download,
            shard=shard,
            restart=options.restart,
            overwrite=options.overwrite,
            progress=lambda done, total: progress("images", done, total),
        )
    _report(summary, options.out, terminal)
    if not summary.tally.scored and shard[1] == 1:  # of a part, others may be better
        raise InputError(f"no image could be scored; the first is {summary.tally.first_failure}")


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise InputError(f"--shard is {text}; give PART/PARTS, such as 2/8 for the second of eight")
    return int(part), int(parts)


def _report(summary: Summary, out: str, terminal: Terminal) -> None:
    tally = summary.tally
    flagged = f"{tally.flagged:,} flagged" + (f" ({tally.flagged / tally.scored:.1%})" if tally.scored else "")
    resumed = f"; {summary.resumed:,} rows were there from an earlier run" if summary.resumed else ""
    terminal.show(
        f"{out}: {tally.rows:,} rows, {flagged}, {tally.failures:,} failures, "
        f"{summary.images_per_second:.0f} images/s{resumed}"
    )
    if tally.failures:
        terminal.note(f"the first failure: {tally.first_failure}")


COMMAND = Command(
    name="score",
    summary="score a folder, an .npz or a Parquet file",
    purpose="""
        Score images of any number into one table: the prediction, its confidence, the outlier score (higher = less
        trustworthy), the p-value, whether to trust it, and the reason. Images are read batch by batch. An image that
        cannot be read is a row with the reason in the column error. An interrupted run continues where it was when
        the same command is run again, and gives the same file.
    """,
    examples="""
        # a folder, with all folders below it
        gradiometer score --detector guard.safetensors --images new/ --out scores.parquet

        # the third of eight machines, each with a file of its own
        gradiometer score --detector guard.safetensors --images new/ --shard 3/8 --out scores/3.parquet

        # the test split of an .npz file in the layout of MedMNIST
        gradiometer score --detector guard.safetensors --images scans.npz:test --out scores.csv
    """,
    options=Options,
    run=run,
    interrupted="finished rows are kept, run the same command again to continue",
)
