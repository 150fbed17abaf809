"""The scores of one trained network on normal and abnormal test images, beside controls that read no gradient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np
import torch
from torch import Tensor

from gradiometer.anomaly import GradCon, Trained, pixels_hash
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks.gradcon import controls
from gradiometer.benchmarks.gradcon.controls import BEYOND, PLAIN, Control, beyond, make_control
from gradiometer.benchmarks.gradcon.settings import GradConBench
from gradiometer.benchmarks.grades import spearman
from gradiometer.benchmarks.metrics import Floats
from gradiometer.data import to_unit
from gradiometer.models import weights_hash

CONTROLS = ("reconstruction", "latent", *controls.NAMES)
"""Scores that need no gradient."""

_BATCH = 64
_COSINE: Score = "gradient"
_LEARNERS: tuple[Score, ...] = ("whitened", "aligned", "subspace")
_OF_NO_DETECTOR = (*controls.NAMES, BEYOND)


def scores_of(model: str) -> tuple[str, ...]:
    """The scores that a network of this name has."""
    latent = ("latent",) if model.startswith("vae") else ()
    return ("reconstruction", *latent, "gradient", "combined", "fused", *_LEARNERS, *_OF_NO_DETECTOR)


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
    controls: dict[str, Control]
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
        if BEYOND in wanted:
            wanted = [*wanted, _COSINE, PLAIN]
        families = {_family(name) for name in wanted if name not in _OF_NO_DETECTOR}
        detectors: dict[str, GradCon] = {
            name: GradCon.of(trained, score=name).fit(part.numpy())
            for name in ("fused", *_LEARNERS)
            if name in families
        }
        asked = {
            name: make_control(name, trained).fit(part.numpy(), _BATCH) for name in controls.NAMES if name in wanted
        }
        return cls(detectors, asked, model, trained, dict(trained.record["sha256"]), len(part))

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
                if _family(name) == family and name not in _OF_NO_DETECTOR:
                    found[name], seconds[name] = detector.score_by(_score(name), statistics), spent
        for name, control in self.controls.items():
            started = time.perf_counter()
            measured = torch.cat([control.measure(to_unit(part)) for part in images.split(_BATCH)])
            found[name] = control.score(measured.numpy())
            seconds[name] = time.perf_counter() - started
        return Scores(found, seconds, pixels_hash(images), list(images.shape[1:]))

    def write(
        self, bench: GradConBench, names: tuple[str, str], wanted: Sequence[str], normal: Scores, abnormal: Scores
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
            values, seconds, notes = _of_both(name, normal, abnormal)
            bench.record(
                known=names[0],
                challenge=names[1],
                model=self.model,
                detector=name,
                seed=record["recipe"]["seed"],
                scores=values,
                control=name in CONTROLS,
                counts={**record["images"], "fit": self.fitted},
                weights=weights_hash(self.trained.network),
                data={**self.data, "normal": normal.images, "abnormal": abnormal.images},
                seconds=seconds,
                notes={
                    "beta": self.detector.beta,
                    "alpha": record["recipe"]["constraint"]["alpha"],
                    "latent_weight": record["recipe"]["latent_weight"],
                    "best_epoch": record["best_epoch"],
                    "training_seconds": record["seconds"],
                    "size": normal.size,
                    **notes,
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


def _of_both(name: str, normal: Scores, abnormal: Scores) -> tuple[tuple[Floats, Floats], float, dict[str, Any]]:
    """A score of normal and abnormal images, the time that it took, and what else is noted.

    What of the cosine plain pixels do not say is known of both together alone, with how alike both order the images.
    """
    if name != BEYOND:
        return (normal.values[name], abnormal.values[name]), normal.seconds[name] + abnormal.seconds[name], {}
    cosine, plain = (np.concatenate([side.values[name] for side in (normal, abnormal)]) for name in (_COSINE, PLAIN))
    left = beyond(cosine, plain)
    count = len(normal.values[PLAIN])
    return (left[:count], left[count:]), 0.0, {"rank_correlation": spearman(cosine, plain)}


def _family(name: str) -> str:
    """The score that a detector has to be fitted for to have this one."""
    return name if name in _LEARNERS else "fused"


def _score(name: str) -> Score:
    """The name as a score of `GradCon`."""
    return next(score for score in get_args(Score) if score == name)
