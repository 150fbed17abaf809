"""The protocol `transfer`: a detector that learnt one challenge, tested on all others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradiometer.benchmarks.cells import Results
from gradiometer.benchmarks.columns import Score
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.evidence import Evidence, join
from gradiometer.benchmarks.matched import Learner, Lesson
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.protocols import Indices
from gradiometer.benchmarks.sides import Sides
from gradiometer.detectors.tails import Tail

OTHERS, SYNTHETIC = "all others", "synthetic"
"""What a detector may be trained on besides one challenge: all but the tested one; challenges made of known images."""

_PURVIEW = "Purview"

GUARDED = f"{_PURVIEW} + Guard"
"""Purview with the density of known images as a guard: the sum of both surprises."""

DETECTORS = (_PURVIEW, "Purview with channels", "Control", "Control with channels")
"""The matched detectors that are trained again for transfer, where a table says nothing else."""


@dataclass(frozen=True)
class _Taught:
    """A detector and the challenge it was trained on."""

    source: str
    learner: Learner
    scores: tuple[Score, ...]


def transfer(
    comparison: Comparison,
    challenges: Sequence[Sides],
    synthetic: Sides | None,
    detectors: Sequence[str] = DETECTORS,
) -> Iterator[Results]:
    """Test every detector on every challenge, whatever it was trained on.

    The detectors are trained on each challenge, on all but the tested one at once (with as many rows in total as there
    are known ones), and on synthetic challenges. Beside them stands Purview with Guard beside it. Known images are
    those of the challenge that is tested.

    Args:
        comparison: A comparison.
        challenges: The challenges, at least two.
        synthetic: Challenges made of known images, or None.
        detectors: Names of the matched detectors.

    Yields:
        The results of each tested challenge; with its own training, which is what `matched` shows, among them.
    """
    keys = [sides.challenge.digest for sides in challenges]
    if synthetic is not None:
        keys.append(synthetic.challenge.digest)
    chosen = [learner for learner in comparison.learners if learner.name in detectors]
    for target in challenges:

        def make(target: Sides = target) -> Results:
            taught = [
                _Taught(source.name, learner, _learn(comparison, learner, source))
                for learner in chosen
                for source in [*challenges, *([] if synthetic is None else [synthetic])]
            ]
            others = [sides for sides in challenges if sides.name != target.name]
            taught += [
                _Taught(OTHERS, learner, _learn_several(comparison, learner, others, target.name)) for learner in chosen
            ]
            return [result for entry in taught for result in _results(comparison, entry, target)]

        names = [learner.name for learner in chosen]
        yield comparison.cached((f"transfer to {target.name}", *names, *keys, target.known.digest), make)


def _learn(comparison: Comparison, learner: Learner, source: Sides) -> tuple[Score, ...]:
    return tuple(comparison.learn(learner, source, seed) for seed in comparison.seeds(learner))


def _learn_several(
    comparison: Comparison, learner: Learner, sources: Sequence[Sides], target: str
) -> tuple[Score, ...]:
    """Train on several challenges at once."""
    known, known_groups = _together([(s.known.seen, s.known.seen_groups) for s in _distinct(sources)], None)
    rows = [(s.challenge.seen, s.challenge.seen_groups) for s in sources]
    challenge, groups = _together(rows, len(known))
    if comparison.progress is not None:
        comparison.progress(f"fitting {learner.name} to all but {target}", 0, 1)
    made = tuple(
        learner.learn(comparison.basis, Lesson(known, challenge, known_groups, groups, seed))
        for seed in comparison.seeds(learner)
    )
    if comparison.progress is not None:
        comparison.progress(f"fitting {learner.name} to all but {target}", 1, 1)
    return made


def _distinct(sources: Sequence[Sides]) -> list[Sides]:
    """One of those that have the same known side."""
    return list({sides.known.digest: sides for sides in sources}.values())


def _together(parts: Sequence[tuple[Evidence, Indices]], most: int | None) -> tuple[Evidence, Indices]:
    """Rows of several sets, evenly chosen when there are more than wanted."""
    share = None if most is None else max(1, most // len(parts))
    chosen = []
    for evidence, groups in parts:
        count = len(evidence) if share is None else min(share, len(evidence))
        rows = np.linspace(0, len(evidence) - 1, count).round().astype(np.int64)
        chosen.append((evidence.select(rows), groups[rows]))
    return join([evidence for evidence, _ in chosen]), np.concatenate([groups for _, groups in chosen])


def _results(comparison: Comparison, taught: _Taught, target: Sides) -> Results:
    started = time.perf_counter()
    learner = taught.learner
    plain = [(score(target.known.tested), score(target.challenge.tested)) for score in taught.scores]
    found = [_scores(taught, target, learner.name, learner.control, plain)]
    if learner.name == _PURVIEW:
        guard = next((column for column in comparison.columns if column.detector == "Guard"), None)
        if guard is not None:
            runs = [_guarded(comparison, score, guard.score, guard.known, target) for score in taught.scores]
            found.append(_scores(taught, target, GUARDED, control=False, runs=runs))
    counts = {"seen_known": len(target.known.split.seen)}
    return [
        (comparison.record(target, scores, counts, None, time.perf_counter() - started), scores) for scores in found
    ]


def _scores(taught: _Taught, target: Sides, name: str, control: bool, runs: Sequence[tuple[Floats, Floats]]) -> Scores:
    return Scores(name, "transfer", control, target.name, *runs[0], None, tuple(runs[1:]), taught.source)


def _guarded(comparison: Comparison, score: Score, guard: Score, known: Floats, target: Sides) -> tuple[Floats, Floats]:
    """Both surprises added up. Tails are those of the known images that are not tested."""
    seen = comparison.split.seen
    tails = Tail(score(comparison.known.select(seen))), Tail(known[seen])
    sides = (target.known.tested, target.challenge.tested)
    first, second = (tails[0].surprise(score(side)) + tails[1].surprise(guard(side)) for side in sides)
    return first, second
