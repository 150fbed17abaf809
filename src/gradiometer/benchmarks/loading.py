"""What every table on a trained classifier is told, and how its model and images are loaded."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from torch import nn

from gradiometer import data, models
from gradiometer.benchmarks.counts import check_draws
from gradiometer.data import Images
from gradiometer.data.shares import share, some
from gradiometer.data.sources import check_form
from gradiometer.errors import InputError, ModelError

PROTOCOLS = ("known-only", "matched", "transfer")
"""The protocols a table can show."""

_JUDGE = "Guard"

_FIT_SHARE = 60
"""Percent of a known set without splits that detectors are fitted on (`NAME@0-60` on the command line)."""


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Settings of every table on a trained classifier.

    Attributes:
        data_root: Folder with the data sets, NAME.npz each, in the layout of MedMNIST.
        model: What `gradiometer.models.load` takes.
        known: The data that the model was trained on, with a training and a test split. One without splits is divided
            as `NAME@0-60` and `NAME@60-100` are on the command line.
        out: Folder for records, readings, finished cells, tables and page.
        size: Height and width that all images are resized to; that of the model when None.
        channels: 1 or 3; that of the model when None.
        fit_images: Training images that detectors are fitted on.
        fit_unseen: Whether they are fitted on test images instead, on which the model was not trained: on those that
            `limit` leaves.
        limit: At most so many test images of every set.
        protocols: Which of `known-only`, `matched` and `transfer` to show; the first is always shown, and the
            last does not come without the second.
        detectors: Names of the known-only detectors; those of the table when there are none. Guard has to be one,
            whose verdicts are shown.
        seed: Of splits, known-only detectors and bootstrap.
        seeds: Of the matched detectors, whose figures are means over these.
        draws: Bootstrap resamples behind each interval.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.
        batch_size: Images that go through the model at once.
        memory: Working memory that the gradients may take, such as `512MiB`.
        keep_readings: Whether readings and finished cells are kept in `out`, so that an interrupted run continues.
    """

    data_root: Path
    model: str = "resnet20-cifar10"
    known: str = "cifar10"
    out: Path = Path("table")
    size: int | None = None
    channels: int | None = None
    fit_images: int = 5000
    fit_unseen: bool = False
    limit: int | None = None
    protocols: tuple[str, ...] = PROTOCOLS
    detectors: tuple[str, ...] = ()
    seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    draws: int = 1000
    false_alarm_rate: float = 0.05
    neighbours: int = 10
    batch_size: int = 128
    memory: str | None = None
    keep_readings: bool = True

    @property
    def learns(self) -> bool:
        """Whether detectors see challenges under one of the protocols."""
        return any(name in self.protocols for name in ("matched", "transfer"))

    def __post_init__(self) -> None:
        """Check protocols, detectors, seeds, resamples and the form of images.

        Raises:
            InputError: If a protocol is unknown, Guard is left out, there is no seed, no test image is left to fit on,
                something is named twice, there are too few resamples, or images cannot have such a size or channels.
        """
        if unknown := [name for name in self.protocols if name not in PROTOCOLS]:
            raise InputError(f"there is no protocol {unknown[0]!r}; there are: {', '.join(PROTOCOLS)}")
        if self.detectors and _JUDGE not in self.detectors:
            raise InputError(
                f"the detectors {', '.join(self.detectors)} are without {_JUDGE}, whose verdicts are shown"
            )
        if self.fit_unseen and self.limit is None:
            raise InputError("fit_unseen fits on the test images that a limit leaves, and there is none; give a limit")
        if not self.seeds:
            raise InputError("there is no seed for the matched detectors; give one or more")
        check_draws(self.draws)
        check_form(self.size, self.channels)
        for entry in fields(self):
            values = getattr(self, entry.name)
            if isinstance(values, tuple) and (twice := [value for value in values if values.count(value) > 1]):
                raise InputError(f"{entry.name} has {twice[0]} twice; give each once")


class Loader:
    """Loads every set of a table the same way.

    Args:
        root: Folder with the data sets.
        size: Height and width.
        channels: 1 or 3.
    """

    def __init__(self, root: Path, size: int, channels: int) -> None:
        self.root, self.size, self.channels = root, size, channels

    def __call__(self, name: str, split: str | None, limit: int | None) -> Images:
        """A set by name; without a split, the test split or else the only one."""
        if split is None:
            split = "test" if "test" in self._splits(name) else None
        return data.load(name, root=self.root, split=split, size=self.size, channels=self.channels, limit=limit)

    def known(self, name: str, fit_images: int, limit: int | None) -> tuple[Images, Images]:
        """Images to fit on, and held-out ones that the model was not trained on."""
        if self._splits(name) != {"test"}:
            return self(name, "train", fit_images), self(name, "test", limit)
        every = self(name, "test", None)
        return some(share(every, 0, _FIT_SHARE), fit_images), some(share(every, _FIT_SHARE, 100), limit)

    def unseen(self, name: str, fit_images: int, held_out: Images) -> Images:
        """Images to fit on that the model was not trained on either: test images of other base images.

        Raises:
            InputError: There is none, or the set has no splits, so that nobody knows what the model was trained on.
        """
        if self._splits(name) == {"test"}:
            raise InputError(f"{name} has no training split, so that no image of it is known to be new to the model")
        every = self(name, "test", None)
        rest = np.flatnonzero(~np.isin(every.groups.numpy(), held_out.groups.numpy()))
        if not len(rest):
            raise InputError(f"all test images of {name} are held out, and none is left to fit on; lower the limit")
        return some(every.select(rest), fit_images)

    def _splits(self, name: str) -> set[str]:
        path = self.root / f"{name}.npz"
        if not path.is_file():
            return {"train", "test"}
        with np.load(path, allow_pickle=False) as arrays:
            return {key.removesuffix("_images") for key in arrays.files if key.endswith("_images")}


def reencoded(images: Images) -> Images:
    """Images, stored like a challenge and loaded like one."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.ascontiguousarray(images.images.permute(0, 2, 3, 1).squeeze(-1).numpy())
        np.savez(Path(folder) / "again.npz", test_images=pixels)
        channels, *size = images.images.shape[1:]
        return data.load("again", root=folder, split="test", size=(size[0], size[1]), channels=channels)


@dataclass(frozen=True, eq=False)
class Kit:
    """A model, its known images, and how everything else is loaded.

    Attributes:
        model: The model.
        load: Loads a set of the data root.
        fit: Known images that detectors are fitted on.
        held_out: Known images that the model was not trained on.
    """

    model: nn.Module
    load: Loader
    fit: Images
    held_out: Images

    @classmethod
    def of(cls, settings: TableSettings) -> Kit:
        """Load the model and its known images.

        Raises:
            InputError: If a data set is missing or unusable.
            ModelError: If the model cannot be loaded.
        """
        model = models.load(settings.model)
        load = Loader(settings.data_root, *_form(settings))
        if settings.fit_unseen:
            held_out = load(settings.known, "test", settings.limit)
            fit = load.unseen(settings.known, settings.fit_images, held_out)
        else:
            fit, held_out = load.known(settings.known, settings.fit_images, settings.limit)
        return cls(model, load, fit, held_out)


def _form(settings: TableSettings) -> tuple[int, int]:
    """Size and channels of the images, as asked for or as the model says."""
    if settings.size is not None and settings.channels is not None:
        return settings.size, settings.channels
    try:
        header = models.header(settings.model)
    except ModelError as error:
        raise InputError(f"give size and channels: {settings.model!r} does not say what images it takes") from error
    return settings.size or header.size, settings.channels or header.channels
