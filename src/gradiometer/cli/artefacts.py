"""Saved detectors: finding the model that one belongs to, and noting it for the commands that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.cli import outputs
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import ArtefactError, InputError, ModelError, NotFittedError

if TYPE_CHECKING:
    from torch import nn

    from gradiometer.detectors import Detector

_KEY = "origin"
"""Entry of the header of the artefact."""

_DATA = frozenset({"classes", "in_chans", "mean", "revision", "std", "weights"})
"""Options of a library's model that an artefact may note: with others a library runs code, or reads any file."""

MODEL = (
    "a folder that train wrote, a shipped name, torchvision:NAME, timm:NAME, hf:NAME, or "
    "path/to/file.py:factory@weights.safetensors"
)
DEVICE = "where the model runs: cpu, cuda, cuda:1, ...; auto is cuda where there is one"


@dataclass(frozen=True)
class Origin:
    """How a detector came about, as far as later commands need it. None of it makes a score.

    Attributes:
        model: Name of the model.
        model_options: Further arguments of `gradiometer.models.load`.
        size: Size that images were resized to, if they were.
        channels: Channels that images were converted to, if they were.
        known: The images of the fit.
        challenges: The challenges of the fit.
        held_out: The images of the calibration.
    """

    model: str = ""
    model_options: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    channels: int | None = None
    known: str = ""
    challenges: tuple[str, ...] = ()
    held_out: str = ""


def load_model(spec: str, options: Mapping[str, Any], device: str) -> nn.Module:
    """A model on a device.

    Raises:
        InputError: If there is no such device.
    """
    from gradiometer import models

    return on_device(models.load(spec, **options), device)


def device_named(device: str) -> str:
    """The name of a device that torch knows; `auto` is the first one with CUDA, or else the CPU."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def on_device(model: nn.Module, device: str) -> nn.Module:
    """The model, moved to a device.

    Raises:
        InputError: If there is no such device.
    """
    try:
        return model.to(device_named(device))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} cannot be used ({str(error).splitlines()[0]}); try cpu") from error


def load(path: str, spec: str | None, device: str, out: str | None = None) -> tuple[Detector, Origin]:
    """A saved detector with its model.

    Args:
        path: The artefact.
        spec: The model; the one that the artefact notes when None.
        device: Where the model runs.
        out: The file that the command writes.

    Raises:
        ArtefactError: If the file is unusable, of another model, or of one that is not where it was.
        InputError: If the file is no detector, neither it nor the caller names the model, or the command would replace
            the model's file.
    """
    from gradiometer import anomaly, detectors
    from gradiometer.detectors import storage
    from gradiometer.models import stored

    del anomaly  # its detector is known to `load` from now on
    header = storage.read(path).header
    if header["class"] not in detectors.registered() and (other := stored.other_kind(Path(path))):
        raise InputError(f"{path} holds no detector but {other}")
    noted = header.get(_KEY, {})
    names = {entry.name for entry in fields(Origin)}
    origin = Origin(**{key: value for key, value in noted.items() if key in names})
    chosen = spec or origin.model
    if header.get("holds_model") and spec is None:
        detector = detectors.load(path)
        on_device(detector.model, device)
        return detector, origin
    if not chosen:
        raise InputError(f"{path} does not say which model it belongs to; name it with --model")
    if out is not None:
        outputs.check_file(out, chosen, None, out, f"the model {chosen}")
    options = _noted_options(path, origin, chosen, named=spec is not None)
    try:
        model = load_model(chosen, options, device)
    except (ArtefactError, ModelError) as error:
        if spec is not None:
            raise
        raise ArtefactError(
            f"{path} notes {chosen} as its model, which was looked for from {Path.cwd()}: {error}; name the model with "
            "--model if it is elsewhere now"
        ) from error
    return detectors.load(path, model), origin


def _noted_options(path: str, origin: Origin, chosen: str, *, named: bool) -> Mapping[str, Any]:
    """The options of the model that an artefact notes, unless they, or the model, would run or fetch what nobody named.

    Raises:
        InputError: If they would.
    """
    from gradiometer.models.user_file import is_user_file

    if chosen != origin.model:
        return {}  # another model may not know them
    options = origin.model_options
    code = is_user_file(chosen)
    if not code and (more := sorted({*options} - _DATA)):
        raise InputError(
            f"{path} notes {', '.join(more)} for its model {chosen}, with which code could be run that you have not "
            "named; if you trust it, write a function that makes the model and name that: --model file.py:function"
        )
    if not named and (code or (chosen.startswith("hf:") and "weights" in options)):
        what = "is code that would be run" if code else "would be fetched from the hub"
        raise InputError(
            f"{path} notes {chosen} as its model, which {what}; if you trust it, name it yourself: --model {chosen}"
        )
    return options


def load_calibrated(path: str, spec: str | None, device: str, out: str | None = None) -> tuple[Detector, Origin]:
    """A saved detector that can give verdicts; as `load`.

    Raises:
        NotFittedError: If it is not calibrated; the command that does it is named.
    """
    detector, origin = load(path, spec, device, out)
    need_calibration(detector, path)
    return detector, origin


def need_calibration(detector: Detector, path: str) -> None:
    """Refuse a detector that gives no verdicts.

    Raises:
        NotFittedError: If it is not calibrated; the command that does it is named.
    """
    if detector.calibration is None:
        raise NotFittedError(
            f"{path} has no false-alarm rate yet; run: gradiometer calibrate --detector {path} --held-out KNOWN_IMAGES"
        )


def save(detector: Detector, path: str, origin: Origin) -> None:
    """Write a detector with its origin, in one step.

    Raises:
        InputError: If the folder is not there.
        ArtefactError: If the file cannot be written.
    """
    from gradiometer.detectors import storage

    check_folder(Path(path))
    header, arrays = detector.contents()
    storage.write(path, {**header, _KEY: asdict(origin)}, arrays)


def check_folder(path: Path) -> None:
    """Notice a missing folder before hours of work, not after.

    Raises:
        InputError: If the folder of a file is not there.
    """
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}; make it first")


def describe(detector: Detector, terminal: Terminal) -> None:
    """Say what a calibrated detector promises."""
    from rich.table import Table

    calibration = detector.calibration
    if calibration is None:
        return
    rates = calibration.false_alarms()
    table = Table(title=f"False alarms among {len(calibration):,} held-out known images", title_justify="left")
    first = "predicted class" if rates.classes else "known images"
    for head in (first, "images", "flagged", "rate", "95 % interval"):
        table.add_column(head, justify="left" if head == first else "right")
    for part in (rates, *rates.classes):
        name = "all" if part.predicted_class is None else str(part.predicted_class)
        interval = f"{part.low:.1%} to {part.high:.1%}"
        table.add_row(name, f"{part.images:,}", f"{part.flagged:,}", f"{part.rate:.1%}", interval)
    terminal.show(table)
