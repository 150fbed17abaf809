"""One class normal: the published table, and the same for grey images."""

from __future__ import annotations

from gradiometer.benchmarks.gradcon.cases import Classes
from gradiometer.benchmarks.gradcon.scoring import Scorer, scores_of
from gradiometer.benchmarks.gradcon.settings import GradConBench

OTHERS = "other classes"


def run(bench: GradConBench, name: str) -> None:
    """Train and score one network for each model, seed and class of a data set.

    Args:
        bench: Settings and records.
        name: Name of the data set.
    """
    settings = bench.settings
    for seed in settings.seeds:
        classes = Classes(settings.data_root, name, seed=seed, limit=settings.limit)
        labels = settings.labels or tuple(range(len(classes.names)))
        total = len(labels) * len(settings.models)
        for number, (model, label) in enumerate((model, label) for model in settings.models for label in labels):
            bench.say(f"{name}, seed {seed}", number, total)
            known = f"{name}/{classes.names[label]}"
            missing = bench.missing(known, OTHERS, model, scores_of(model), seed)
            if not missing:
                continue
            case = classes.case(label)
            found = bench.network(model, seed, case.train, case.validation)
            scorer = Scorer.of(found, model, case.train, settings.fit_images, missing)
            scorer.write(bench, (known, OTHERS), missing, scorer.scores(case.normal), scorer.scores(case.abnormal))
        bench.say(f"{name}, seed {seed}", total, total)
