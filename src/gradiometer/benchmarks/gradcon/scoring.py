"""All scores of one trained network on normal and abnormal test images, from one pass over each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gradiometer.anomaly import GradCon, Trained, pixels_hash
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks.gradcon.settings import Bench
from gradiometer.benchmarks.metrics import Floats
from gradiometer.models import weights_hash

CONTROLS = ("reconstruction", "latent")
"""Scores that need no gradient."""


def scores_of(model: str) -> tuple[Score, ...]:
    """The scores that a network of this name has."""
    latent: tuple[Score, ...] = ("latent",) if model.startswith("vae") else ()
    return ("reconstruction", *latent, "gradient", "combined", "fused")


@dataclass(frozen=True, eq=False)
class Scorer:
    """A fitted detector of a trained network.

    Attributes:
        detector: Fitted for `fused`, so that it has every score.
        model: Name of the network.
        trained: The training.
        data: Hashes of the images by use.
        fitted: Images that the densities were fitted on.
    """

    detector: GradCon
    model: str
    trained: Trained
    data: dict[str, str]
    fitted: int

    @classmethod
    def of(cls, trained: Trained, model: str, known: Tensor, fit_images: int) -> Scorer:
        """Fit the detector of a training.

        Args:
            trained: The training.
            model: Name of the network.
            known: Its training images, uint8.
            fit_images: How many of them the densities are fitted on.
        """
        part = known[:fit_images]
        detector = GradCon.of(trained, score="fused").fit(part.numpy())
        return cls(detector, model, trained, dict(trained.record["sha256"]), len(part))

    def statistics(self, images: Tensor) -> tuple[Floats, float]:
        """Statistics of images, uint8, and how long they took in seconds."""
        started = time.perf_counter()
        found = self.detector.statistics(images.numpy())
        return found, time.perf_counter() - started

    def write(
        self,
        bench: Bench,
        names: tuple[str, str],
        detectors: Sequence[str],
        normal: tuple[Tensor, Floats],
        abnormal: tuple[Tensor, Floats],
        seconds: float,
    ) -> None:
        """Record some scores.

        Args:
            bench: Takes the records.
            names: Of the normal and of the abnormal images.
            detectors: Names of the scores.
            normal: Normal test images and their statistics.
            abnormal: Abnormal test images and their statistics.
            seconds: Time of the pass over both.
        """
        record = self.trained.record
        for name in scores_of(self.model):
            if name not in detectors:
                continue
            bench.record(
                known=names[0],
                challenge=names[1],
                model=self.model,
                detector=name,
                seed=record["recipe"]["seed"],
                scores=(self.detector.score_by(name, normal[1]), self.detector.score_by(name, abnormal[1])),
                control=name in CONTROLS,
                counts={**record["images"], "fit": self.fitted},
                weights=weights_hash(self.detector.model),
                data={**self.data, "normal": pixels_hash(normal[0]), "abnormal": pixels_hash(abnormal[0])},
                seconds=seconds,
                notes={
                    "beta": self.detector.beta,
                    "alpha": record["recipe"]["constraint"]["alpha"],
                    "latent_weight": record["recipe"]["latent_weight"],
                    "best_epoch": record["best_epoch"],
                    "training_seconds": record["seconds"],
                    "size": list(normal[0].shape[1:]),
                },
            )
