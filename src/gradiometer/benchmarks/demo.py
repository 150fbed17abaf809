"""The demonstration: a small network learns digits on the spot and meets things that are not digits.

Needs no download: the digits come with scikit-learn, letters with the fonts of matplotlib, photographs and textures
with scikit-learn and scikit-image.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from gradiometer import challenges, data, models
from gradiometer.benchmarks import exhibits, records
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.counts import check_draws
from gradiometer.benchmarks.differences import JUDGE
from gradiometer.benchmarks.evidence import Progress, Reader
from gradiometer.benchmarks.loading import reencoded
from gradiometer.benchmarks.outcome import Outcome, Scores
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import Challenge
from gradiometer.data import Images
from gradiometer.errors import DependencyError
from gradiometer.models import Labelled, Recipe
from gradiometer.models.export import channel_statistics
from gradiometer.models.training import train

EPSILON = 32 / 255
"""Largest change of a pixel by FGSM; whole grey levels, so that storing the attacked digits in 8 bits changes none."""

LEVEL = 5
"""Level of noise and blur."""

_SIZE = 8
"""Height and width of scikit-learn's digits."""


DETECTORS = ("MSP", "Energy", "Normalised Mahalanobis", "Purview", "Control", "Guard")
"""The known-only detectors of the demonstration: few enough for one screen."""

MATCHED = ("Purview", "Control")
"""The matched detectors of the demonstration."""


@dataclass(frozen=True)
class DemoSettings:
    """Settings of `gradiometer demo`.

    Attributes:
        out: The page; records go beside it, with the ending `.jsonl`. Nothing is written by `run` itself when None.
        images: Images of each challenge that is not made from digits.
        epochs: Passes over the training digits.
        seed: Of everything that is drawn.
        draws: Bootstrap resamples behind each interval.
        false_alarm_rate: Share of known images that may be flagged.
        neighbours: k of the densities.
        limit: At most so many digits, for a quick look.
    """

    out: Path | None = Path("demo-report.html")
    images: int = 900
    epochs: int = 30
    seed: int = 0
    draws: int = 1000
    false_alarm_rate: float = 0.05
    neighbours: int = 10
    limit: int | None = None

    def __post_init__(self) -> None:
        """Check the resamples.

        Raises:
            InputError: There are too few.
        """
        check_draws(self.draws)


def run(
    settings: DemoSettings | None = None,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Train, fit, calibrate, and compare all detectors on all challenges.

    Args:
        settings: What to run; the defaults when None.
        progress: Told about training, readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        DependencyError: If matplotlib or scikit-image, which bring the pictures, are missing (extra `report`).
        InputError: If the null test fails or there are too few images.
    """
    settings = DemoSettings() if settings is None else settings
    # Pictures first: a missing package is then noticed before anything is computed.
    pictures = _pictures(settings)
    digits = data.load("digits", limit=settings.limit)
    parts = data.split(digits, {"fit": 0.5, "held_out": 0.5}, seed=settings.seed)
    fit, held_out = parts["fit"], parts["held_out"]
    model, accuracy = _train(fit, held_out, settings, progress)
    comparison = Comparison(
        Reader(model, direct={}),
        Settings(
            benchmark="demo",
            model="digits-cnn, trained on the spot",
            known="digits",
            seed=settings.seed,
            draws=settings.draws,
            false_alarm_rate=settings.false_alarm_rate,
            neighbours=settings.neighbours,
            notes={"accuracy": accuracy, "epochs": settings.epochs, "epsilon": EPSILON, "level": LEVEL},
            detectors=DETECTORS,
            matched=MATCHED,
        ),
        fit,
        held_out,
        progress,
    )
    all_challenges = [*pictures, *_changed(model, held_out, settings.seed)]
    path = None if settings.out is None else settings.out.with_suffix(".jsonl")
    done, scores = comparison.null(reencoded), list[Scores]()
    if path is not None:
        records.write(path, done)
    for challenge in all_challenges:
        results, found = comparison.measure(challenge)
        if path is not None:
            for record in results:
                records.append(path, record)
        done += results
        scores += exhibits.shown(found)
        if finished is not None:
            finished(results)
    return Outcome(
        title="What does a network that reads digits do with things that are not digits?",
        steps=_steps(comparison, all_challenges, accuracy, settings),
        records=tuple(done),
        scores=tuple(scores),
        profile=exhibits.profile(comparison, all_challenges),
        examples=exhibits.examples(comparison, all_challenges),
        judge=JUDGE,
        false_alarm_rate=settings.false_alarm_rate,
    )


def _pictures(settings: DemoSettings) -> list[Challenge]:
    """Things that are not digits."""
    count, seed = settings.images, settings.seed
    return [
        Challenge("letters", challenges.letters(_SIZE, count, seed)),
        Challenge("photographs", challenges.photographs(_SIZE, count, seed, channels=1)),
        Challenge("textures", challenges.textures(_SIZE, count, seed)),
    ]


def _changed(model: nn.Module, digits: Images, seed: int) -> list[Challenge]:
    """Digits that were corrupted or attacked; the attack is left out when its package is missing."""
    found = [
        Challenge("noise", challenges.corrupt(digits, challenges.gaussian_noise(LEVEL), seed=seed), True),
        Challenge("blur", challenges.corrupt(digits, challenges.gaussian_blur(LEVEL), seed=seed), True),
    ]
    if importlib.util.find_spec("foolbox") is not None:
        attack = partial(challenges.fgsm, epsilon=EPSILON)
        found.append(Challenge("FGSM attack", challenges.attack_images(attack, model, digits, seed=seed), True))
    return found


def _train(fit: Images, held_out: Images, settings: DemoSettings, progress: Progress | None) -> tuple[nn.Module, float]:
    """The small network, and its accuracy on the held-out digits."""
    if fit.labels is None or held_out.labels is None:
        raise DependencyError("the digits of scikit-learn came without labels; install scikit-learn again")
    mean, std = channel_statistics(fit.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = models.build("digits-cnn", classes=10, channels=1, size=_SIZE, mean=mean, std=std)
    recipe = Recipe(epochs=settings.epochs, batch_size=64, learning_rate=0.05, augment="crop", seed=settings.seed)
    steps = None if progress is None else partial(progress, "training the network")
    with tempfile.TemporaryDirectory() as folder:
        trained = train(
            model,
            Labelled(fit.images, fit.labels),
            Labelled(held_out.images, held_out.labels),
            recipe,
            Path(folder),
            steps=steps,
        )
    return model.eval(), float(trained["epochs"][-1]["test_accuracy"])


def _steps(
    comparison: Comparison, all_challenges: Sequence[Challenge], accuracy: float, settings: DemoSettings
) -> tuple[str, ...]:
    split = comparison.split
    names = ", ".join(challenge.name for challenge in all_challenges)
    steps = [
        f"Trained a small convolutional network for {settings.epochs} epochs on {len(comparison.fitted)} digits.",
        f"It reads {100 * accuracy:.1f} % of {len(comparison.held_out)} other digits right.",
        f"Fitted the known-only detectors on the training digits, and calibrated them on {len(split.seen)} others.",
        f"Trained a decision network for each challenge on 40 % of it and {len(split.train)} digits.",
        "Stopped its training early on a further 10 % of both.",
        "Divided letters by letter and font, crops by photograph or texture, changed digits by the original.",
        f"Tested all of them on {len(split.test)} digits that none had seen, and on the rest of: {names}.",
        f"Noise and blur are at level {LEVEL} of 5.",
        "Checked with digits, stored and loaded again like other images, that no detector reads the handling.",
    ]
    if not any(challenge.name.startswith("FGSM") for challenge in all_challenges):
        steps.append("Left out the FGSM attack, which needs foolbox: pip install 'gradiometer[attacks]'.")
    return tuple(steps)
