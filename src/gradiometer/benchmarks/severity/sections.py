"""Sections of the retina (OCT) with and without fluid: few of them, so that it is a demonstration and no result.

Each scan without fluid is left out once: a model is trained on the others, and asked whether the scan that it has not
seen scores less than each scan with fluid. Nothing was tuned on these scans.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradiometer import data
from gradiometer.anomaly import GradCon
from gradiometer.anomaly.detector import Score
from gradiometer.benchmarks.gradcon.cases import trained
from gradiometer.benchmarks.gradcon.references import Components
from gradiometer.benchmarks.grades import Agreement
from gradiometer.benchmarks.metrics import Floats, Interval, percentile_interval
from gradiometer.benchmarks.severity import methods
from gradiometer.benchmarks.severity.graded import Graded
from gradiometer.benchmarks.severity.settings import SeverityBench
from gradiometer.data import Images, to_unit
from gradiometer.data.hashing import pixels_hash
from gradiometer.errors import InputError
from gradiometer.models import weights_hash
from gradiometer.severity import Preparation, SeverityModel
from gradiometer.severity.training import prepared

NAME, DRY, WET, UNLABELLED = "oct_srf", 0, 1, 2
PREPARATION = Preparation(channels=1, size=(128, 128), tile=32, contrast="standard")
"""Tiles, because fluid is small beside a section; fixed before the first run."""

POOLS = ("mean", "max")
_SCORES: tuple[Score, ...] = ("reconstruction", "gradient", "subspace")


@dataclass(frozen=True, eq=False)
class Sections:
    """The scans.

    Attributes:
        dry: Without fluid.
        wet: With fluid.
        unlabelled: Nobody said.
    """

    dry: Images
    wet: Images
    unlabelled: Images


def load(root: Path, limit: int | None = None) -> Sections:
    """Load the scans.

    Args:
        root: Folder with `oct_srf.npz`.
        limit: At most so many of each kind.

    Raises:
        InputError: The file is missing, or has no labels.
    """
    scans = data.load(NAME, root=root, split="test")
    if scans.labels is None:
        raise InputError(f"{NAME} has no labels, and the part oct needs to know which scans show fluid")
    marks = scans.labels.numpy()
    return Sections(*(scans.select(np.flatnonzero(marks == mark)[:limit]) for mark in (DRY, WET, UNLABELLED)))


def run(bench: SeverityBench) -> None:
    """Leave each dry scan out once, and compare it with the wet ones.

    Args:
        bench: Settings and records.
    """
    settings, model = bench.settings, "CAE + grad"
    seed = settings.seeds[0]
    if bench.done("oct", methods.PCA, PREPARATION.contrast, seed):
        return
    sections = load(settings.data_root, settings.limit)
    found: dict[tuple[str, str], list[Floats]] = {}
    for left in range(len(sections.dry)):
        bench.say("sections, one left out", left, len(sections.dry))
        rest = sections.dry.select([row for row in range(len(sections.dry)) if row != left])
        tested = [sections.dry.select([left]), sections.wet]
        for name, values in _scores(bench, rest, tested, seed):
            # Share of the wet scans that score more than the one that was left out, scan by scan.
            above = (values[1] > values[0][0]).astype(np.float64) + 0.5 * (values[1] == values[0][0])
            found.setdefault(name, []).append(above)
    bench.say("sections, one left out", len(sections.dry), len(sections.dry))
    weights = weights_hash(final(bench, sections).model)
    for (kind, score), rows in found.items():
        pairs = np.stack(rows)
        area = pair_interval(pairs, seed=seed, draws=settings.draws)
        bench.write(
            Graded(
                part="oct",
                model=kind if kind == methods.PCA else model,
                score=score,
                contrast=PREPARATION.contrast,
                control=not score.startswith(("gradient", "subspace")),
                seed=seed,
                test=Agreement(None, None, None, area, pairs.size, len(sections.wet)),
                validation=None,
                gain=None,
                counts={"dry": len(sections.dry), "wet": len(sections.wet), "unlabelled": len(sections.unlabelled)},
                data_sha256={"dry": pixels_hash(sections.dry.images)},
                weights_sha256="" if kind == methods.PCA else weights,
                settings=bench.notes("oct"),
            )
        )


def final(bench: SeverityBench, sections: Sections) -> SeverityModel:
    """The model of all dry scans, which the unlabelled ones are ranked by.

    Percentiles need healthy scans that were not trained on, and there are none to spare: they are those of three dry
    scans that this model leaves out.
    """
    kept = np.arange(len(sections.dry)) % 5 == 0
    model = _model(bench, sections.dry.select(~kept), bench.settings.seeds[0])
    held_out = sections.dry.select(kept)
    return model.calibrate(held_out, 1 / (len(held_out) + 1))


def pair_interval(pairs: Floats, *, seed: int, draws: int) -> Interval:
    """Mean of a table of pairs (dry, wet) with a bootstrap interval over the scans of both sides."""
    generator = np.random.default_rng(seed)
    rows, columns = (generator.integers(0, count, (draws, count)) for count in pairs.shape)
    found = np.array([pairs[np.ix_(row, column)].mean() for row, column in zip(rows, columns, strict=True)])
    return percentile_interval(float(pairs.mean()), found)


def _model(bench: SeverityBench, dry: Images, seed: int) -> SeverityModel:
    known = prepared(dry, PREPARATION).images
    # Every tenth tile chooses the weights.
    chosen_by = np.arange(len(known)) % 10 == 0
    recipe = bench.settings.recipe(methods.ALPHAS["CAE + grad"], seed, bench.settings.oct_epochs)
    found = trained(known[~chosen_by], known[chosen_by], recipe, bench.settings.networks)
    detector = GradCon.of(found, score="subspace", directions=bench.settings.directions).fit(known.numpy())
    return SeverityModel(detector, PREPARATION, "max")


def _scores(
    bench: SeverityBench, rest: Images, tested: list[Images], seed: int
) -> list[tuple[tuple[str, str], list[Floats]]]:
    """Scores of the tested scans by every method that learns from the rest, by model and score."""
    model = _model(bench, rest, seed)
    statistics = [model.statistics(part) for part in tested]
    found: list[tuple[tuple[str, str], list[Floats]]] = []
    for pool in POOLS:
        asked = SeverityModel(model.detector, PREPARATION, pool)  # type: ignore[arg-type]
        for name in _SCORES:
            values = [asked.score_by(name, part) for part in statistics]
            found.append((("CAE + grad", f"{name}, {pool} over tiles"), values))
    components = Components().fit(to_unit(prepared(rest, PREPARATION).images).numpy())
    tiles = [PREPARATION.apply(part) for part in tested]
    errors = [
        components.maps(to_unit(part.flatten(0, 1)).numpy()).mean((1, 2)).reshape(part.shape[:2]) for part in tiles
    ]
    found.append(((methods.PCA, "reconstruction, mean over tiles"), [part.mean(1) for part in errors]))
    found.append(((methods.PCA, "reconstruction, max over tiles"), [part.max(1) for part in errors]))
    return found
