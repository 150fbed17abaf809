"""Photographs of the retina with grades of diabetic retinopathy: trained on grade 0 alone, tested on all grades."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradiometer import data
from gradiometer.anomaly.export import divide
from gradiometer.benchmarks import grades
from gradiometer.benchmarks.metrics import Floats, Integers, Interval
from gradiometer.benchmarks.severity import methods
from gradiometer.benchmarks.severity.graded import Graded
from gradiometer.benchmarks.severity.methods import Sets
from gradiometer.benchmarks.severity.settings import SeverityBench
from gradiometer.data import Images
from gradiometer.data.hashing import pixels_hash
from gradiometer.errors import InputError
from gradiometer.severity import Cuts, Preparation, SeverityTable

NAME, HEALTHY = "retina_mnist", 0
TABLE = "retina.csv"
"""Scores and grades of the test photographs, for the figure."""

SHOWN = ("CAE + grad", "subspace", "local")
"""Model, score and contrast of the figure."""


@dataclass(frozen=True, eq=False)
class Retina:
    """The photographs.

    Attributes:
        healthy: Those of grade 0 of the training split; no other of it is used.
        validation: The validation split.
        test: The test split.
    """

    healthy: Images
    validation: Images
    test: Images


def load(root: Path, limit: int | None = None) -> Retina:
    """Load the photographs.

    Args:
        root: Folder with `retina_mnist.npz`.
        limit: At most so many of each set.

    Raises:
        InputError: The file is missing, or has no grades.
    """
    train, validation, test = (data.load(NAME, root=root, split=split) for split in ("train", "val", "test"))
    healthy = train.select(np.flatnonzero(labels(train) == HEALTHY)[:limit])
    return Retina(healthy, *(part.select(np.arange(len(part))[:limit]) for part in (validation, test)))


def labels(scans: Images) -> Integers:
    """Grades (N,) of scans.

    Raises:
        InputError: There are none.
    """
    if scans.labels is None:
        raise InputError(f"the scans of {NAME} have no grades, and there is nothing to compare scores with")
    found: Integers = scans.labels.numpy()
    return found


def sets_of(retina: Retina, contrast: str, seed: int) -> Sets:
    """What the methods see.

    Args:
        retina: The photographs.
        contrast: What is done to them.
        seed: Of the division of the healthy ones; a tenth is kept for percentiles, as `train_severity` does.
    """
    parts = divide(retina.healthy, None, None, 0.5, seed)
    seen = Preparation(channels=retina.healthy.images.shape[1], contrast=contrast)  # type: ignore[arg-type]
    prepared = [seen.apply(one)[:, 0] for one in (parts.train, parts.validation, retina.validation, retina.test)]
    return Sets(*prepared)


def run(bench: SeverityBench) -> None:
    """Score the test photographs by every method, contrast and seed.

    Args:
        bench: Settings and records.
    """
    settings = bench.settings
    retina = load(settings.data_root, settings.limit)
    todo = [
        (seed, contrast, model)
        for seed in settings.seeds
        for contrast in settings.contrasts
        for model in methods.MODELS
        # Brightness is that of the scans as they come, and no seed changes it.
        if model != methods.BRIGHTNESS or (contrast, seed) == (methods.AS_IS, settings.seeds[0])
    ]
    for number, (seed, contrast, model) in enumerate(todo):
        bench.say("photographs of the retina", number, len(todo))
        if bench.done("retina", model, contrast, seed):
            continue
        _measure(bench, retina, sets_of(retina, contrast, seed), (model, contrast, seed))
    bench.say("photographs of the retina", len(todo), len(todo))


def _measure(bench: SeverityBench, retina: Retina, sets: Sets, what: tuple[str, str, int]) -> None:
    """Record the scores of one model."""
    model, contrast, seed = what
    found = methods.scores_of(model, sets, bench.settings, seed)
    for name, scores in found.test.items():
        cuts = Cuts.fit(found.validation[name], labels(retina.validation))
        test, validation = (
            grades.agreement(
                values,
                labels(part),
                cuts=cuts if part is retina.test else None,
                nuisances=methods.nuisances(part.images),
                seed=seed,
                draws=bench.settings.draws,
            )
            for values, part in ((scores, retina.test), (found.validation[name], retina.validation))
        )
        bench.write(
            Graded(
                part="retina",
                model=model,
                score=name,
                contrast=contrast,
                control=model not in methods.ALPHAS or name in methods.CONTROLS,
                seed=seed,
                test=test,
                validation=validation,
                gain=_gain(name, found.test, retina, bench.settings.draws, seed),
                counts={"train": len(sets.train), "validation": len(sets.validation), "test": len(sets.test)},
                data_sha256={"train": pixels_hash(sets.train), "test": pixels_hash(sets.test)},
                weights_sha256=found.weights,
                settings=bench.notes("retina"),
            )
        )
        if (model, name, contrast) == SHOWN and seed == bench.settings.seeds[0]:
            _table(retina, scores, cuts).write(bench.settings.out / TABLE)


def _gain(name: str, scores: dict[str, Floats], retina: Retina, draws: int, seed: int) -> Interval | None:
    """How much more a score follows the grades than the reconstruction error of the same network."""
    if name == "reconstruction" or "reconstruction" not in scores:
        return None
    return grades.difference(scores[name], scores["reconstruction"], labels(retina.test), seed=seed, draws=draws)


def _table(retina: Retina, scores: Floats, cuts: Cuts) -> SeverityTable:
    """Scores of the test photographs beside their grades; percentiles among the healthy ones of them."""
    healthy = np.sort(scores[labels(retina.test) == HEALTHY])
    shares = np.searchsorted(healthy, scores, side="left") / max(1, len(healthy))
    return SeverityTable(retina.test.names, scores, shares, None, cuts.label(scores), labels(retina.test))
