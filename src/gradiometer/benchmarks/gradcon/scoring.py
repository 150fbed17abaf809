"""The scores of one trained network on normal and abnormal test images, beside controls that read no gradient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, get_args

import torch
from torch import Tensor

from gradiometer.anomaly import GradCon, Trained, pixels_hash
from gradiometer.anomaly.detector import Score
from gradiometer.anomaly.whitening import WhiteDirection
from gradiometer.benchmarks.gradcon.settings import Bench
from gradiometer.benchmarks.metrics import Floats
from gradiometer.data import to_unit
from gradiometer.models import weights_hash

PIXELS, ERRORS = "whitened pixels", "whitened errors"
"""The whitened cosine of images less a grey one, and of their reconstruction errors: controls of `whitened`."""

CONTROLS = ("reconstruction", "latent", PIXELS, ERRORS)
"""Scores that need no gradient."""

_LEARNERS: tuple[Score, ...] = ("whitened", "subspace")
_BATCH = 500
_WIDEST = 14
"""Height and width at which controls see images at most, so that they have about as many entries as gradients."""


def scores_of(model: str) -> tuple[str, ...]:
    """The scores that a network of this name has."""
    latent = ("latent",) if model.startswith("vae") else ()
    return ("reconstruction", *latent, "gradient", "combined", "fused", *_LEARNERS, PIXELS, ERRORS)


@dataclass(frozen=True, eq=False)
class Scorer:
    """What scores the images of a trained network.

    Attributes:
        detectors: Fitted detectors by name of the score they were fitted for; that of `fused` has every other score.
        controls: What the controls learnt, by name.
        model: Name of the network.
        trained: The training.
        data: Hashes of the images by use.
        fitted: Images that the scores were fitted on.
    """

    detectors: dict[str, GradCon]
    controls: dict[str, WhiteDirection]
    model: str
    trained: Trained
    data: dict[str, str]
    fitted: int

    @classmethod
    def of(cls, trained: Trained, model: str, known: Tensor, fit_images: int, wanted: Sequence[str]) -> Self:
        """Fit what the wanted scores need.

        Args:
            trained: The training.
            model: Name of the network.
            known: Its training images, uint8.
            fit_images: How many of them are fitted on.
            wanted: Names of the scores.
        """
        part = known[:fit_images]
        families = {_family(name) for name in wanted if name not in (PIXELS, ERRORS)}
        detectors: dict[str, GradCon] = {
            name: GradCon.of(trained, score=name).fit(part.numpy())
            for name in ("fused", *_LEARNERS)
            if name in families
        }
        controls = {name: WhiteDirection.of(_seen(name, trained, part)) for name in (PIXELS, ERRORS) if name in wanted}
        return cls(detectors, controls, model, trained, dict(trained.record["sha256"]), len(part))

    @property
    def detector(self) -> GradCon:
        """A detector of the network, with its reference."""
        return next(iter(self.detectors.values()), GradCon.of(self.trained))

    def scores(self, images: Tensor) -> Scores:
        """All scores that were fitted, of images, uint8."""
        found: dict[str, Floats] = {}
        seconds: dict[str, float] = {}
        for family, detector in self.detectors.items():
            started = time.perf_counter()
            statistics = detector.statistics(images.numpy())
            spent = time.perf_counter() - started
            for name in scores_of(self.model):
                if _family(name) == family and name not in self.controls:
                    found[name], seconds[name] = detector.score_by(_score(name), statistics), spent
        for name, control in self.controls.items():
            started = time.perf_counter()
            found[name] = -control.cosines(_seen(name, self.trained, images)).numpy()
            seconds[name] = time.perf_counter() - started
        return Scores(found, seconds, pixels_hash(images), list(images.shape[1:]))

    def write(
        self, bench: Bench, names: tuple[str, str], wanted: Sequence[str], normal: Scores, abnormal: Scores
    ) -> None:
        """Record some scores.

        Args:
            bench: Takes the records.
            names: Of the normal and of the abnormal images.
            wanted: Names of the scores.
            normal: Scores of normal test images.
            abnormal: Scores of abnormal test images.
        """
        record = self.trained.record
        for name in scores_of(self.model):
            if name not in wanted:
                continue
            bench.record(
                known=names[0],
                challenge=names[1],
                model=self.model,
                detector=name,
                seed=record["recipe"]["seed"],
                scores=(normal.values[name], abnormal.values[name]),
                control=name in CONTROLS,
                counts={**record["images"], "fit": self.fitted},
                weights=weights_hash(self.trained.network),
                data={**self.data, "normal": normal.images, "abnormal": abnormal.images},
                seconds=normal.seconds[name] + abnormal.seconds[name],
                notes={
                    "beta": self.detector.beta,
                    "alpha": record["recipe"]["constraint"]["alpha"],
                    "latent_weight": record["recipe"]["latent_weight"],
                    "best_epoch": record["best_epoch"],
                    "training_seconds": record["seconds"],
                    "size": normal.size,
                },
            )


@dataclass(frozen=True, eq=False)
class Scores:
    """Outlier scores of some images.

    Attributes:
        values: Scores (B,) by name.
        seconds: Time of the pass behind each of them.
        images: Hash of the images.
        size: Shape of an image.
    """

    values: dict[str, Floats]
    seconds: dict[str, float]
    images: str
    size: list[int]


def _family(name: str) -> str:
    """The score that a detector has to be fitted for to have this one."""
    return name if name in _LEARNERS else "fused"


def _score(name: str) -> Score:
    """The name as a score of `GradCon`."""
    return next(score for score in get_args(Score) if score == name)


def _seen(name: str, trained: Trained, images: Tensor) -> Tensor:
    """What a control sees of images (B, K, H, W), uint8: vectors (B, D)."""
    seen = to_unit(images) - 0.5
    if name == ERRORS:
        with torch.no_grad():
            parts = [trained.network(to_unit(part)) - to_unit(part) for part in images.split(_BATCH)]
        seen = torch.cat(parts)
    smaller: Tensor = torch.nn.functional.adaptive_avg_pool2d(seen, min(_WIDEST, *images.shape[-2:]))
    return smaller.flatten(1)
