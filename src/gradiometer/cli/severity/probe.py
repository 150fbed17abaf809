"""`gradiometer severity probe`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gradiometer.cli import artefacts
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.severity import cohorts
from gradiometer.cli.severity.cohorts import FORMS, Described
from gradiometer.cli.sources import LIMIT
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError
from gradiometer.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiometer.benchmarks.probes import ProbeRecord
    from gradiometer.data import Cohort

_TEST_SHARE = 0.3
RECORDS, PAGE = "probes.jsonl", "probes.md"


@dataclass(frozen=True, kw_only=True)
class Options(Described):
    """Settings of the command."""

    encoders: tuple[str, ...] = option("folders that severity pretrain wrote; the table has a row for each")
    train: str = option(f"images with targets, to fit the heads on: {FORMS}")
    targets: tuple[str, ...] = option(
        "columns to read from the features, such as IRF DME IRHRF FAVF PAVF, or class; class>=2 asks whether a value "
        "is that large"
    )
    out: str = option(f"folder for the records, {RECORDS}, and the tables, {PAGE}")
    test: str | None = option(
        "other images with targets; three tenths of the training images when absent, divided by patient", None
    )
    test_table: str | None = option("table of the test images, if it is another one", None)
    heads: Literal["separate", "joint"] = option(
        "a head for each target, or one layer with a sigmoid for each", "separate"
    )
    untrained: bool = option("add a row for the first encoder with random weights (true or false)", True)
    allow_shared: bool = option(
        "allow patients, or the same images, on both sides of the split; the records then say so", False
    )
    limit: int | None = option(LIMIT, None)
    draws: int = option("bootstrap resamples behind each interval", 1000)
    seed: int = option("of the division into training and test images, and of the random weights", 0)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Probe every encoder, and print the tables."""
    measure(options, terminal)


def measure(options: Options, terminal: Terminal) -> list[ProbeRecord]:
    """Probe every encoder, write the records and print the tables; returns the records."""
    from gradiometer.benchmarks import probes, rendering
    from gradiometer.data.hashing import pixels_hash
    from gradiometer.models import weights_hash
    from gradiometer.severity import contrastive
    from gradiometer.severity.contrastive.probe import check_split

    stored = {name: contrastive.load_encoder(name) for name in options.encoders}
    first = next(iter(stored.values()))
    for name, one in stored.items():
        if (one.size, one.encoder.settings.channels) != (first.size, first.encoder.settings.channels):
            raise InputError(f"{name} was trained on images of another size or other channels; probe it by itself")
    train, test = _parts(options, first.size, first.encoder.settings.channels)
    shared = check_split(train, test, allow_shared=options.allow_shared)
    if shared:
        shown = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        terminal.note(f"patients on both sides of the split: {len(shared)} ({shown}); the records say so")
    elif train.patients is None or test.patients is None:
        terminal.note("patients are not known, so that nothing keeps images of one from being on both sides")
    encoders = {name: (one.encoder, one.patients) for name, one in stored.items()}
    if options.untrained:
        settings = first.encoder.settings
        encoders["random weights"] = (contrastive.make_encoder(settings, options.seed), ())
    titles = _titles(tuple(encoders))
    out = Path(options.out)
    hashes = {use: pixels_hash(part.images.images) for use, part in (("train", train), ("test", test))}
    found = []
    for name, (encoder, seen) in encoders.items():
        artefacts.on_device(encoder, options.device)
        result = contrastive.probe(
            encoder, train, test, options.targets, heads=options.heads, allow_shared=options.allow_shared
        )
        unknown = seen is None or test.patients is None
        found += probes.measured(
            [result],
            data=options.test or options.train,
            encoder=titles[name],
            seeds=[options.seed],
            weights=[weights_hash(encoder)],
            data_sha256=hashes,
            pretraining_shared=None if unknown else len({*(seen or ())} & {*(test.patients or ())}),
            draws=options.draws,
            settings={"train": options.train},
        )
        terminal.note(f"{name}: done")
    out.mkdir(parents=True, exist_ok=True)
    for record in found:
        probes.append(out / RECORDS, record)
    page = probes.to_page(found)
    write_text(out / PAGE, page)
    for table in probes.tables(found):
        terminal.show(rendering.to_rich(table))
    _leaks(found, terminal)
    terminal.show(f"records: {out / RECORDS}")
    return found


def _titles(paths: Sequence[str]) -> dict[str, str]:
    """What each encoder is called: the last part of its path, or all of it where others have the same last part."""
    last = {path: Path(path).name for path in paths}
    shared = Counter(last.values())
    return {path: name if shared[name] == 1 else path for path, name in last.items()}


def _parts(options: Options, size: tuple[int, int], channels: int) -> tuple[Cohort, Cohort]:
    """Training and test images, of the size that the encoders were trained on."""
    train = cohorts.load(options.train, options, limit=options.limit, size=size, channels=channels)
    if options.test is None:
        parts = train.divide({"train": 1 - _TEST_SHARE, "test": _TEST_SHARE}, options.seed)
        return parts["train"], parts["test"]
    test = cohorts.load(
        options.test, options, table=options.test_table, limit=options.limit, size=size, channels=channels
    )
    return train, test


def _leaks(found: Sequence[ProbeRecord], terminal: Terminal) -> None:
    """Say which encoders have seen the test patients, without their targets."""
    seen = {record.encoder: record.pretraining_shared for record in found if record.pretraining_shared}
    for name, count in seen.items():
        terminal.note(f"{name} was pre-trained on images of {count} of the test patients, without their targets")


COMMAND = Command(
    name="probe",
    summary="read targets from the features of frozen encoders",
    purpose="""
        Fit a linear head on the features of each encoder, which stays as it is, and measure accuracy, F1, AUROC and
        average precision on other images, with intervals over patients. A split that has a patient on both sides is
        refused unless it is asked for, and so is one with the same images where patients are not known. An encoder with
        random weights stands beside the others.
    """,
    examples="""
        # five biomarkers of OLIVES, the first released split: it shares patients, so it has to be asked for
        gradiometer severity probe --encoders runs/encoder runs/clinical --train OLIVES:train1 --test OLIVES:test1 \\
            --targets IRF DME IRHRF FAVF PAVF --heads joint --allow-shared --out runs/probe

        # grades of an .npz file
        gradiometer severity probe --encoders runs/simclr --train retina_mnist:train --test retina_mnist:test \\
            --targets 'class>=2' class --out runs/grades
    """,
    options=Options,
    run=run,
)
