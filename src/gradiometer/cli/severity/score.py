"""`gradiometer severity score`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.data import Images
    from gradiometer.severity import SeverityModel

_SHOWN = 10
"""Failures that are named one by one."""


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    model: str = option("file that severity train wrote, or the folder with it")
    images: str = option(
        "a folder, FILE.npz or FILE.parquet, or the name of an .npz file in --data-root; with :SPLIT for its split"
    )
    out: str = option("table of the severities, ending in .parquet or .csv")
    patient: str | None = option(
        "regular expression that finds the patient in the name of a scan, such as '(P[0-9]+)_'", None
    )
    grades: bool = option(
        "the labels of the source are grades: keep them in the table; class folders must be named 0, 1, 2, ...", False
    )
    overwrite: bool = option("replace the table if it is there", False)
    restart: bool = option("begin again instead of continuing an interrupted run", False)
    device: str = option(DEVICE, "auto")


def load(path: str, device: str) -> SeverityModel:
    """A saved model on a device; the path of its folder does as well."""
    from pathlib import Path

    from gradiometer import severity

    home = Path(path)
    model = severity.SeverityModel.load(home / severity.ARTEFACT if home.is_dir() else home)
    artefacts.on_device(model.model, device)
    return model


def load_for(model: SeverityModel, text: str, reading: Reading, *, limit: int | None = None) -> Images:
    """Scans in the size and the channels that a model takes.

    Raises:
        InputError: The options ask for another size.
    """
    seen = model.preparation
    check_size(model, reading)
    shape = None if seen.size is None else (seen.channels, *seen.size)
    reading = replace(reading, channels=reading.channels or seen.channels)
    return sources.load(text, reading, limit=limit, shape=shape)


def check_size(model: SeverityModel, reading: Reading) -> None:
    """Refuse scans of another size than those of the training, which would be resized twice.

    Raises:
        InputError: The options ask for one.
    """
    trained = model.preparation.size
    if reading.size is not None and trained is not None and trained != (reading.size, reading.size):
        raise InputError(
            f"--size is {reading.size}, and the model was trained on scans of {trained[0]} x {trained[1]} pixels, "
            "which they are resized to; leave --size out"
        )


def run(options: Options, terminal: Terminal) -> None:
    """Score and say what was found."""
    from gradiometer import scoring

    named = sources.parse_whole(options.images, "score reads")
    model = load(options.model, options.device)
    check_size(model, options)
    preparation = model.preparation
    with terminal.progress() as progress:
        found = scoring.score_severity(
            model,
            named.source,
            options.out,
            patient=options.patient,
            grades=options.grades,
            size=preparation.size if options.size is None else options.size,
            channels=options.channels or preparation.channels,
            split=named.split,
            root=options.root,
            download=options.download,
            restart=options.restart,
            overwrite=options.overwrite,
            progress=lambda done, total: progress("scans", done, total),
        )
    for failure in found.failures[:_SHOWN]:
        terminal.note(f"not scored: {failure.name}: {failure.reason}")
    if len(found.failures) > _SHOWN:
        terminal.note(f"... and {len(found.failures) - _SHOWN:,} more")
    table, calibration = found.table, model.calibration
    assert calibration is not None
    beyond = int((table.percentiles >= 1 - calibration.false_alarm_rate).sum())
    terminal.show(
        f"{options.out}: {len(table):,} scans, {beyond:,} of them ({beyond / len(table):.1%}) beyond what "
        f"{1 - calibration.false_alarm_rate:.1%} of healthy scans score; {len(found.failures):,} failures"
    )
    terminal.note(f"next: gradiometer severity label --table {options.out} --bins 100 --out labels.parquet")


COMMAND = Command(
    name="score",
    summary="score scans into a table",
    purpose="""
        Score scans of any number into a table with one row for each: its file, its patient where the name says it, its
        severity score, and the share of healthy scans that score less. A scan that cannot be read is reported with the
        reason. An interrupted run continues when the same command is run again, and gives the same table.
    """,
    examples="""
        # a folder with names such as P017_OD_03.png
        gradiometer severity score --model runs/severity --images scans/ --patient '(P[0-9]+)_' --out scores.parquet

        # the test split of an .npz file whose labels are grades
        gradiometer severity score --model runs/severity --images retina.npz:test --grades --out scores.csv
    """,
    options=Options,
    run=run,
    interrupted="scans that were scored are kept, run the same command again to continue",
)
