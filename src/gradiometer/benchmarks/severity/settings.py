"""What `gradiometer benchmark severity` runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradiometer.anomaly import AnomalyRecipe, Constraint
from gradiometer.benchmarks.counts import check_draws
from gradiometer.benchmarks.parts import Bench, Folders, check_names
from gradiometer.benchmarks.severity import graded
from gradiometer.benchmarks.severity.graded import Graded

PARTS = ("retina", "oct", "contrastive", "olives")
DEFAULT_PARTS = PARTS[:3]
"""What runs without being asked for; OLIVES needs scans that are fetched by hand."""

CONTRASTS = ("local", "as-is")


@dataclass(frozen=True)
class SeveritySettings(Folders):
    """Settings of `gradiometer benchmark severity`.

    Attributes:
        data_root: Folder with the data sets, NAME.npz each, in the layout of MedMNIST.
        out: Folder for the records, the tables and the figure.
        cache: Folder for the trained networks; `out / networks` when None.
        parts: What to run: `retina` (graded photographs of the retina), `oct` (sections with and without fluid),
            `contrastive` (encoders pre-trained by severity labels of the photographs, and linear probes) and `olives`
            (biomarkers of OLIVES beside the published figures).
        contrasts: What is done to the photographs before any method sees them, see `severity.Preparation`.
        seeds: Seeds of splits, weights and order; each is a training.
        epochs: Passes over the healthy photographs.
        oct_epochs: Passes over the sections without fluid.
        contrastive_epochs: Passes over the photographs in contrastive pre-training.
        olives: Folder with the archives of OLIVES and its tables, for the part `olives`.
        healthy: Folder of healthy OCT scans, such as `OCT2017/train/NORMAL`, for the part `olives`.
        olives_split: Number of the released split.
        olives_size: Height and width of its scans, in pixels.
        olives_encoder: Encoder of its scans.
        olives_epochs: Passes over its pool.
        olives_bins: Severity labels of its pool.
        directions: Dimensions of the score `subspace`.
        limit: At most so many scans of every set, for a quick look.
        draws: Bootstrap resamples behind each interval.
    """

    data_root: Path
    out: Path = Path("severity")
    cache: Path | None = None
    parts: tuple[str, ...] = DEFAULT_PARTS
    contrasts: tuple[str, ...] = CONTRASTS
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 100
    oct_epochs: int = 20
    contrastive_epochs: int = 12
    olives: Path | None = None
    healthy: Path | None = None
    olives_split: int = 1
    olives_size: int = 224
    olives_encoder: str = "resnet18"
    olives_epochs: int = 25
    olives_bins: int = 5000
    directions: int = 20
    limit: int | None = None
    draws: int = 1000

    def __post_init__(self) -> None:
        """Check the names and the resamples.

        Raises:
            InputError: A part or a contrast is unknown, or there are too few resamples.
        """
        check_draws(self.draws)
        check_names({"part": self.parts, "contrast": self.contrasts}, {"part": PARTS, "contrast": CONTRASTS})

    def recipe(self, alpha: float, seed: int, epochs: int) -> AnomalyRecipe:
        """How an auto-encoder is trained, with the constraint (alpha above 0) or without."""
        return AnomalyRecipe(constraint=Constraint(alpha=alpha), epochs=epochs, seed=seed)


class SeverityBench(Bench[SeveritySettings, Graded]):
    """The settings, and the records that are there."""

    def done(self, part: str, model: str, contrast: str, seed: int) -> bool:
        """Whether the records of a model are there under these settings."""
        wanted = self.notes(part)
        return any(
            (one.part, one.model, one.contrast, one.seed) == (part, model, contrast, seed)
            and {name: one.settings.get(name) for name in wanted} == wanted
            for one in graded.read(self.settings.records)
        )

    def write(self, found: Graded) -> None:
        """Write a record down."""
        self.keep(found, graded.append)

    def notes(self, part: str) -> dict[str, Any]:
        """The settings that a record of a part depends on."""
        settings = self.settings
        epochs = settings.oct_epochs if part == "oct" else settings.epochs
        return {"epochs": epochs, "directions": settings.directions, "limit": settings.limit, "draws": settings.draws}
