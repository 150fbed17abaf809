"""`gradiometer explain`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gradiometer import given
from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiometer.data import Images
    from gradiometer.detectors import Detector, Profile, Verdict

_LIMIT, _TOP = 5, 5
"""Images of each source, and readings of each image, that are shown when nothing else is said."""

_SUSPECTS = 24
"""Images on a page."""

_WIDTH = 12
_FULL = 20.0
"""Robust z-score at which a bar is full."""


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    detector: str = option("file that fit wrote")
    images: tuple[str, ...] = option(f"image files, or: {FORMS}")
    limit: int | None = option(f"{LIMIT}; 5 when absent, and all of them for --page", None)
    top: int | None = option("readings to show for each image, 5 when absent; images on --page, 24 when absent", None)
    page: str | None = option(
        "for gradcon: write an HTML page of the images, the least normal first, with maps of where", None
    )
    by: Literal["score", "spot"] = option(
        "for --page: rank by the score, or by the most unusual spot, which finds small defects", "score"
    )
    known: str | None = option(
        "for --page: normal images that give the maps their scale, and, by spot, the threshold (38 or more for a "
        f"false-alarm rate of 5 %): {FORMS}",
        None,
    )
    model: str | None = option("the model, if it is elsewhere now; the one that fit noted when absent", None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Print the readings that are most out of line, image by image."""
    if options.top is not None:
        given.whole("top", options.top)
    for name in ("by", "known"):
        if options.page is None and getattr(options, name) != Options.__dataclass_fields__[name].default:
            raise InputError(f"--{name} is for the page of suspicious images; add --page, or leave it out")
    detector, origin = artefacts.load(options.detector, options.model, options.device, options.page)
    reading = replace(options, size=options.size or origin.size, channels=options.channels or origin.channels)
    if options.page is not None:
        _write_page(detector, options, reading, terminal)
        return
    limit = _LIMIT if options.limit is None else options.limit
    top = options.top or _TOP
    for source in options.images:
        images = sources.load(source, reading, limit=limit)
        verdict = None if detector.calibration is None else detector.judge(images)
        profile = detector.explain(images) if verdict is None else verdict.reasons
        for row, name in enumerate(images.names):
            _show(name, row, profile, verdict, top, terminal)
    if detector.calibration is None:
        terminal.note(f"{options.detector} is not calibrated, so there are no p-values and no verdicts")


def _write_page(detector: Detector, options: Options, reading: Options, terminal: Terminal) -> None:
    from gradiometer.anomaly import GradCon
    from gradiometer.reports import suspects

    if not isinstance(detector, GradCon):
        raise InputError(
            f"{options.detector} holds a {type(detector).__name__}, and only gradcon has maps; leave --page out"
        )
    if options.known is None or options.page is None:
        raise InputError("--page needs normal images for the scale of its maps; give some with --known")
    artefacts.need_calibration(detector, options.detector)
    parts = [sources.load(name, reading, limit=options.limit) for name in options.images]
    images, left = sources.join(parts), _left_out(parts, options, reading)
    known = sources.load(options.known, reading)
    top = options.top or _SUSPECTS
    path = suspects.write(
        detector, images, known, options.page, by=options.by, top=top, out_of=len(images) + left if left else None
    )
    looked = f"; {len(images):,} of {len(images) + left:,} looked at" if left else ""
    terminal.show(f"{path}: the {min(top, len(images)):,} least normal of {len(images):,} images{looked}")


def _left_out(parts: Sequence[Images], options: Options, reading: Reading) -> int:
    """How many images of the sources the limit left out."""
    left = 0
    for part, name in zip(parts, options.images, strict=True):
        read = len(part) + len(part.failures)
        if read == options.limit:  # or else that was all of them
            left += sources.count(name, reading) - read
    return left


def _show(name: str, row: int, profile: Profile, verdict: Verdict | None, top: int, terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    terminal.show(f"{name}: {profile.words(row, 1) if verdict is None else verdict.words(row, 1)}")
    table = Table()
    table.add_column("reading", overflow="fold")
    table.add_column("z", justify="right")
    table.add_column("smaller than known | larger")
    for reading, z in profile.ranked(row, top):
        bar = ("#" if terminal.out.options.ascii_only else "█") * max(1, round(_WIDTH * min(abs(z), _FULL) / _FULL))
        table.add_row(escape(reading), f"{z:+.1f}", f"{bar if z < 0 else '':>{_WIDTH}}|{bar if z > 0 else ''}")
    terminal.show(table)


COMMAND = Command(
    name="explain",
    summary="show which layers are out of line, for given images",
    purpose="""
        Compare what an image asks of each layer with what known images ask. The readings that are most out of line
        come first, with their robust z-score: how many times the usual deviation they are from the median of the known
        images. Beyond 3.5 a reading counts as out of line.
    """,
    examples="""
        # why were these photographs flagged?
        gradiometer explain --detector guard.safetensors --images new/0017.jpg new/0342.jpg

        # three images of a split, twenty readings each
        gradiometer explain --detector guard.safetensors --images scans.npz:test --limit 3 --top 20

        # a page of suspicious parts, with maps of where
        gradiometer explain --detector runs/parts/gradcon.safetensors --images new/ --known other-good/ --by spot \\
            --page suspects.html
    """,
    options=Options,
    run=run,
)
