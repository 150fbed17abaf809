"""Tables of the severity benchmark, rendered from its records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from gradiometer.benchmarks.grades import Agreement
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.rendering import Cell, Head, Table
from gradiometer.benchmarks.severity.graded import Graded

_FIGURES: dict[str, Callable[[Graded], Interval | None]] = {
    "Spearman": lambda one: one.test.spearman,
    "by seed": lambda one: None,
    "minus that of reconstruction": lambda one: one.gain,
    "Spearman, brightness held fixed": lambda one: one.test.partial,
    "weighted kappa": lambda one: one.test.kappa,
    "AUROC, grade 2 and more": lambda one: one.test.auroc,
    "Spearman, validation": lambda one: None if one.validation is None else one.validation.spearman,
}


def arrange(records: Sequence[Graded]) -> list[Table]:
    """All tables of scores against grades.

    Args:
        records: Result records.
    """
    made: list[Table] = []
    for part, table in (("retina", _retina_table), ("oct", _oct_table)):
        chosen = [record for record in records if record.part == part]
        if chosen:
            made.append(table(chosen))
    return made


def mean_of(intervals: Sequence[Interval | None]) -> Interval | None:
    """Mean of a figure over seeds, between the means of its ends; None when one is missing."""
    present = [interval for interval in intervals if interval is not None]
    if not present or len(present) < len(intervals):
        return None
    return Interval(
        *(statistics.fmean(getattr(interval, name) for interval in present) for name in ("value", "low", "high"))
    )


def _retina_table(records: Sequence[Graded]) -> Table:
    """One row for each model, score and contrast; means over the seeds."""
    rows = []
    for key in dict.fromkeys((one.contrast, one.model, one.score) for one in records):
        found = [one for one in records if (one.contrast, one.model, one.score) == key]
        contrast, model, score = key
        cells = [_cell(mean_of([figure(one) for one in found])) for figure in _FIGURES.values()]
        cells[1] = _span([one.test for one in found])
        rows.append((f"{model}, {score}, pixels {contrast}", tuple(cells)))
    test = records[0].test
    epochs = sorted({one.settings["epochs"] for one in records})
    seeds = sorted({one.seed for one in records})
    title = (
        f"RetinaMNIST, trained on grade 0 alone: agreement of scores with the grades of {test.scans} test photographs, "
        f"{test.severe} of them of grade 2 and more. Means over the seeds {', '.join(map(str, seeds))} and over the "
        f"ends of their 95 % bootstrap intervals over photographs; {' and '.join(map(str, epochs))} epochs"
    )
    return Table(title, "model, score, pixels", tuple(Head(name) for name in _FIGURES), tuple(rows))


def _oct_table(records: Sequence[Graded]) -> Table:
    counts = records[0].counts
    rows = [(f"{one.model}, {one.score}", (_cell(one.test.auroc),)) for one in records]
    title = (
        f"OCT sections, a demonstration: {counts['dry']} without fluid, each left out of the training once, against "
        f"{counts['wet']} with fluid; AUROC with 95 % bootstrap interval over sections"
    )
    return Table(title, "model, score", (Head("AUROC"),), tuple(rows))


def _span(found: Sequence[Agreement]) -> Cell:
    values = [one.spearman.value for one in found if one.spearman is not None]
    return Cell("-") if len(values) < 2 else Cell(f"{min(values):.3f}–{max(values):.3f}")


def _cell(value: Interval | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value.value:.3f}", f"{value.low:.3f}–{value.high:.3f}")
