"""What `gradiometer benchmark gradcon` runs, and with which networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gradiometer.anomaly import AnomalyRecipe, Constraint, Trained
from gradiometer.benchmarks import records
from gradiometer.benchmarks.counts import check_draws
from gradiometer.benchmarks.gradcon.cases import trained, untrained
from gradiometer.benchmarks.metrics import Floats, evaluate
from gradiometer.benchmarks.parts import Bench, Folders, check_names
from gradiometer.benchmarks.records import Record

BENCHMARK = "gradcon"
PARTS = ("cifar10", "mnist", "fashion_mnist", "condition", "tiles", "cost")
MODELS = ("cae", "cae+grad", "vae", "vae+grad")
"""The published networks."""

UNTRAINED = "untrained"
"""What follows the plus sign of a network as it is before its first step, whose reference is the mean gradient of the
training images: what training is worth can be seen beside it."""

CONSTRAINTS = {
    "": Constraint(alpha=0.0),
    UNTRAINED: Constraint(alpha=0.0),
    "grad": Constraint(),
    "recent": Constraint(decay=0.99),
    "late": Constraint(start=70),
}
"""How gradients are constrained, by what follows the plus sign: not at all; as published; with an exponential mean of
some hundred steps for the reference; with a mean that begins after about an epoch."""


@dataclass(frozen=True)
class GradConSettings(Folders):
    """Settings of `gradiometer benchmark gradcon`.

    Attributes:
        data_root: Folder with the data sets, NAME.npz each, in the layout of MedMNIST.
        out: Folder for the records, the tables and the figure.
        cache: Folder for the trained networks; `out / networks` when None.
        parts: What to run: the data sets of which each class is normal once, `condition` (traffic signs under
            corruptions), `tiles` (magnetic tiles with defects) and `cost`.
        models: Networks: `cae` or `vae`, with a constraint of `CONSTRAINTS` behind a plus sign, or without.
        scores: Names of the scores that are made; all that a network has when empty.
        labels: Numbers of the classes that are normal once; all when empty.
        signs: Data set of the part `condition`: signs in splits `train` and `test`.
        seeds: Seeds of splits, weights and order; each is a training.
        epochs: Passes over the training images.
        tile_size: Height and width of the tiles, in pixels.
        fit_images: Training images that densities are fitted on.
        limit: At most so many test images of every set, for a quick look.
        draws: Bootstrap resamples behind each interval.
    """

    data_root: Path
    out: Path = Path("gradcon")
    cache: Path | None = None
    parts: tuple[str, ...] = PARTS
    models: tuple[str, ...] = MODELS
    scores: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    signs: str = "gtsrb"
    seeds: tuple[int, ...] = (0,)
    epochs: int = 40
    tile_size: int = 64
    fit_images: int = 2000
    limit: int | None = None
    draws: int = 1000

    def __post_init__(self) -> None:
        """Check the names and the resamples.

        Raises:
            InputError: A part or a model is unknown, or there are too few resamples.
        """
        models = [f"{kind}+{name}" if name else kind for kind in ("cae", "vae") for name in CONSTRAINTS]
        check_draws(self.draws)
        check_names({"part": self.parts, "model": self.models}, {"part": PARTS, "model": models})

    def recipe(self, model: str, seed: int, values: int) -> AnomalyRecipe:
        """How a network is trained, or of what kind it is, untrained.

        Args:
            model: Its name.
            seed: Of weights and order.
            values: Values in an image. The latent loss of a VAE is the sum over its latent vector beside the *mean*
                squared error, as in much published code; of the readings that we tried it is the one whose figures
                come near the published ones.
        """
        network, _, constraint = model.partition("+")
        return AnomalyRecipe(
            network="vae" if network == "vae" else "cae",
            constraint=CONSTRAINTS[constraint],
            epochs=self.epochs,
            latent_weight=float(values) if network == "vae" else 1.0,
            seed=seed,
        )


class GradConBench(Bench[GradConSettings, Record]):
    """The settings, and the records that are there."""

    def network(self, model: str, seed: int, known: Tensor, validation: Tensor) -> Trained:
        """The network of this name, trained or taken from the cache.

        Args:
            model: Its name.
            seed: Of weights and order.
            known: Training images, uint8 (N, K, H, W).
            validation: Images to choose the weights by.
        """
        recipe = self.settings.recipe(model, seed, known[0].numel())
        if _is_untrained(model):
            return untrained(known, validation, recipe)
        return trained(known, validation, recipe, self.settings.networks)

    def missing(self, known: str, challenge: str, model: str, detectors: Sequence[str], seed: int) -> list[str]:
        """Detectors that were asked for and have no record yet under these settings."""
        there = records.read(self.settings.records) if self.settings.records.exists() else []
        wanted = self._notes(model)
        found = {
            record.detector
            for record in there
            if (record.known, record.challenge, record.model, record.seed) == (known, challenge, model, seed)
            and record.draws == self.settings.draws
            and {name: record.settings.get(name) for name in wanted} == wanted
        }
        asked = self.settings.scores or detectors
        return [name for name in detectors if name in asked and name not in found]

    def record(
        self,
        *,
        known: str,
        challenge: str,
        model: str,
        detector: str,
        seed: int,
        scores: tuple[Floats, Floats],
        control: bool,
        counts: dict[str, int],
        weights: str,
        data: dict[str, str],
        seconds: float,
        notes: dict[str, Any],
    ) -> Record:
        """Measure one detector on one challenge, and write it down.

        Args:
            known: Name of the normal images.
            challenge: Name of the abnormal ones.
            model: Name of the network, or of the reference method.
            detector: Name of the score.
            seed: Of training and bootstrap.
            scores: Outlier scores of normal and of abnormal test images.
            control: Whether the score needs no gradient.
            counts: Numbers of images by use.
            weights: Hash of the weights of the network.
            data: Hashes of the images by use.
            seconds: Time for scoring.
            notes: Further settings.
        """
        found = Record(
            benchmark=BENCHMARK,
            kind="detection",
            model=model,
            known=known,
            challenge=challenge,
            detector=detector,
            protocol="known-only",
            control=control,
            metrics=evaluate(*scores, seed=seed, draws=self.settings.draws),
            counts=counts,
            seed=seed,
            draws=self.settings.draws,
            confidence=0.95,
            weights_sha256=weights,
            data_sha256=data,
            versions=records.versions(),
            environment=records.environment(),
            seconds=seconds,
            settings={**self._notes(model), **notes},
        )
        self.keep(found, records.append)
        return found

    def _notes(self, model: str) -> dict[str, Any]:
        settings = self.settings
        names = ("epochs", "fit_images", "limit", "tile_size")
        notes = {name: getattr(settings, name) for name in names}
        return notes | ({"epochs": 0} if _is_untrained(model) else {})


def _is_untrained(model: str) -> bool:
    return model.partition("+")[2] == UNTRAINED
