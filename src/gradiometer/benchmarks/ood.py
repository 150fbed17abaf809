"""The first table: a trained classifier, its own test images, and whole sets of images that it was not trained for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradiometer import data, models
from gradiometer.benchmarks import exhibits, records
from gradiometer.benchmarks.comparison import JUDGE, Challenge, Comparison, Settings
from gradiometer.benchmarks.evidence import Progress, Reader
from gradiometer.benchmarks.outcome import Outcome, Scores
from gradiometer.benchmarks.records import Record
from gradiometer.data import Images
from gradiometer.errors import InputError, ModelError

CHALLENGES = ("street_chars", "tiny_imagenet", "scenes", "gtsrb", "mnist", "fashion_mnist", "cifar100")
"""The challenges of the first table."""


@dataclass(frozen=True)
class OodSettings:
    """Settings of `gradiometer benchmark ood`.

    Attributes:
        data_root: Folder with the data sets, NAME.npz each, in the layout of MedMNIST.
        model: What `gradiometer.models.load` takes.
        known: The data that the model was trained on, with a training and a test split.
        challenges: Data sets that it was not trained for; of each, the test split, or the only one there is.
        out: Folder for the records, the readings that are kept, and the page.
        size: Height and width that all images are resized to; that of the model when None.
        channels: 1 or 3; that of the model when None.
        fit_images: Training images that detectors are fitted on.
        limit: At most so many test images of every set.
        seed: Of splits, decision networks and bootstrap.
        draws: Bootstrap resamples behind each interval.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.
        batch_size: Images that go through the model at once.
        memory: Working memory that the gradients may take, such as `512MiB`.
        keep_readings: Whether readings are kept in `out`, so that an interrupted run continues where it was.
    """

    data_root: Path
    model: str = "resnet20-cifar10"
    known: str = "cifar10"
    challenges: tuple[str, ...] = CHALLENGES
    out: Path = Path("ood")
    size: int | None = None
    channels: int | None = None
    fit_images: int = 5000
    limit: int | None = None
    seed: int = 0
    draws: int = 1000
    false_alarm_rate: float = 0.05
    neighbours: int = 10
    batch_size: int = 128
    memory: str | None = None
    keep_readings: bool = True


def run(
    settings: OodSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Compare all detectors on all challenges.

    The null test comes first and stops the run when it fails. Records go to `out/records.jsonl`, which is begun anew,
    as soon as a challenge is finished.

    Args:
        settings: What to run.
        progress: Told about readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If a data set is missing or unusable, or the null test fails.
        ModelError: If the model cannot be loaded or read.
    """
    model = models.load(settings.model)
    size, channels = _form(settings)
    load = _Loader(settings.data_root, size, channels)
    fit = load(settings.known, "train", settings.fit_images)
    held_out = load(settings.known, "test", settings.limit)
    challenges = [Challenge(name, load(name, None, settings.limit)) for name in settings.challenges]
    reader = Reader(
        model,
        batch_size=settings.batch_size,
        memory=settings.memory,
        cache=settings.out / "readings" if settings.keep_readings else None,
    )
    notes = {"size": size, "channels": channels, "fit_images": len(fit), "limit": settings.limit}
    comparison = Comparison(
        reader,
        Settings(
            benchmark="ood",
            model=settings.model,
            known=settings.known,
            seed=settings.seed,
            draws=settings.draws,
            false_alarm_rate=settings.false_alarm_rate,
            neighbours=settings.neighbours,
            notes=notes,
        ),
        fit,
        held_out,
        progress,
    )
    path = settings.out / "records.jsonl"
    records.write(path, [])
    done, scores = comparison.null(load.reencoded), list[Scores]()
    for record in done:
        records.append(path, record)
    for challenge in challenges:
        results, found = comparison.measure(challenge)
        for record in results:
            records.append(path, record)
        done += results
        scores += exhibits.shown(found)
        if finished is not None:
            finished(results)
    return Outcome(
        title=f"What does {Path(settings.model).name} do with images that it was not trained for?",
        steps=_steps(settings, comparison, challenges),
        records=tuple(done),
        scores=tuple(scores),
        profile=exhibits.profile(comparison, challenges),
        examples=exhibits.examples(comparison, challenges),
        judge=JUDGE,
        false_alarm_rate=settings.false_alarm_rate,
    )


class _Loader:
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
            split = self._test_split(name)
        return data.load(name, root=self.root, split=split, size=self.size, channels=self.channels, limit=limit)

    def reencoded(self, images: Images) -> Images:
        """Known images, stored like a challenge and loaded like one."""
        with tempfile.TemporaryDirectory() as folder:
            pixels = np.ascontiguousarray(images.images.permute(0, 2, 3, 1).squeeze(-1).numpy())
            np.savez(Path(folder) / "again.npz", test_images=pixels)
            return data.load("again", root=folder, split="test", size=self.size, channels=self.channels)

    def _test_split(self, name: str) -> str | None:
        path = self.root / f"{name}.npz"
        if not path.is_file():
            return "test"
        with np.load(path, allow_pickle=False) as arrays:
            return "test" if "test_images" in arrays.files else None


def _form(settings: OodSettings) -> tuple[int, int]:
    """Size and channels of the images, as asked for or as the model says."""
    if settings.size is not None and settings.channels is not None:
        return settings.size, settings.channels
    try:
        header = models.header(settings.model)
    except ModelError as error:
        raise InputError(f"give size and channels: {settings.model!r} does not say what images it takes") from error
    return settings.size or header.size, settings.channels or header.channels


def _steps(settings: OodSettings, comparison: Comparison, challenges: Sequence[Challenge]) -> tuple[str, ...]:
    split, known = comparison.split, settings.known
    count, channels, height, width = comparison.held_out.images.shape
    names = ", ".join(challenge.name for challenge in challenges)
    return (
        f"Loaded the classifier {Path(settings.model).name}.",
        f"Loaded all images in the same way: {height} x {width} pixels, {'colour' if channels == 3 else 'grey'}.",
        f"Fitted the known-only detectors on {len(comparison.fitted)} training images of {known}.",
        f"Calibrated them on {len(split.seen)} of its {count} test images.",
        f"Trained a decision network for each challenge on 40 % of it and {len(split.train)} test images of {known}.",
        "Stopped its training early on a further 10 % of both.",
        f"Tested all of them on the other {len(split.test)} test images of {known}.",
        f"Tested them on the other half of each of {len(challenges)} challenges too: {names}.",
        "Checked with known images, stored and loaded again like a challenge, that no detector reads the handling.",
    )
