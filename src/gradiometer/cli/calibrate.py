"""`gradiometer calibrate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command."""

    detector: str = option("file that fit wrote", in_place=True)
    held_out: str = option(f"known images that fit has not seen, and best the network neither: {FORMS}")
    false_alarm_rate: float = option("share of known images that may be flagged", 0.05)
    out: str | None = option("file of the calibrated detector; replaces --detector when absent", None)
    model: str | None = option("the model, if it is elsewhere now; the one that fit noted when absent", None)
    limit: int | None = option(LIMIT, None)
    device: str = option(DEVICE, "auto")


def run(options: Options, terminal: Terminal) -> None:
    """Calibrate and save."""
    out = options.out or options.detector
    artefacts.check_folder(Path(out))
    detector, origin = artefacts.load(options.detector, options.model, options.device, out)
    reading = replace(options, size=options.size or origin.size, channels=options.channels or origin.channels)
    held_out = sources.load(options.held_out, reading, limit=options.limit)
    terminal.note(f"calibrating on {len(held_out):,} images")
    detector.calibrate(held_out, options.false_alarm_rate)
    origin = replace(origin, held_out=options.held_out)
    if options.model is not None and options.model != origin.model:
        origin = replace(origin, model=options.model, model_options={})  # those of another model
    artefacts.save(detector, out, origin)
    artefacts.describe(detector, terminal)
    terminal.show(f"{out}: flags {options.false_alarm_rate:.3g} of known images")
    terminal.note(f"next: gradiometer score --detector {out} --images NEW_IMAGES --out scores.parquet")


COMMAND = Command(
    name="calibrate",
    summary="choose its false-alarm rate, on known images that fit has not seen",
    purpose="""
        Set the threshold so that the chosen share of known images is flagged, whatever the network and the score. This
        holds for images that are drawn like the held-out ones. They must not be among those of the fit; for a rate of
        0.05 there must be at least 19, and a few hundred make the rate exact to a percent.
    """,
    examples="""
        # one known image in twenty may be flagged
        gradiometer calibrate --detector guard.safetensors --held-out photos.npz:val

        # one in a hundred, into another file
        gradiometer calibrate --detector guard.safetensors --held-out digits@50-80 --false-alarm-rate 0.01 \\
            --out strict.safetensors
    """,
    options=Options,
    run=run,
)
