"""The whole suite in one table: data sets, attacks and corruptions, each family beside the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradiometer.benchmarks import attacks, begun
from gradiometer.benchmarks.attacks import AttackSettings
from gradiometer.benchmarks.corruptions import READINGS, corrupted
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit
from gradiometer.benchmarks.ood import CHALLENGES
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.possible import changing, others
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.sides import FAMILY, Challenge
from gradiometer.benchmarks.tabling import Contents, fill
from gradiometer.challenges import CORRUPTIONS, corruption

SETS, ATTACKS, CORRUPTED = "data sets", "attacks", "corruptions"
"""The families."""

TYPES = tuple(name for name, recipe in CORRUPTIONS.items() if recipe.source == READINGS["cifar10c"])
"""The nineteen corruptions of CIFAR-10-C."""


@dataclass(frozen=True, kw_only=True)
class SuiteSettings(AttackSettings):
    """Settings of `gradiometer benchmark suite`: those of attacks, and its own.

    Attributes:
        challenges: Data sets that the model was not trained for.
        types: Corruptions by name.
        levels: Their levels.
    """

    out: Path = Path("suite")
    protocols: tuple[str, ...] = ("known-only",)
    unfiltered: bool = False
    input_step: bool = False
    challenges: tuple[str, ...] = CHALLENGES
    types: tuple[str, ...] = TYPES
    levels: tuple[int, ...] = (3,)


def run(
    settings: SuiteSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Compare all detectors on all kinds of challenge; see `tabling.fill`.

    Data sets and corruptions are told from the held-out known images, attacks from originals and equally noisy ones as
    in the table of attacks. Means are over kinds, each of which counts once, over those of each family, and over the
    means of the families.

    Args:
        settings: What to run.
        progress: Told about attacks, corruptions, readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If a data set is missing or unusable, there is no such attack, corruption or level, the known images
            have no labels, or the null test fails.
        ModelError: If the model cannot be loaded or read.
        DependencyError: If Foolbox is missing.
    """
    asked = attacks.named(settings)
    wanted = [(f"{name} {level}", corruption(name, level)) for name in settings.types for level in settings.levels]
    begun.check(settings)
    kit = Kit.of(settings)
    names, known = others(settings.challenges, settings.known)
    chosen, calm = changing(asked, kit)
    changes, idle = changing(wanted, kit)
    whole = [Challenge(name, kit.load(name, None, settings.limit)) for name in names]
    attacked = attacks.attacked(chosen, settings, kit, progress)
    families = {SETS: whole, ATTACKS: attacked, CORRUPTED: corrupted(changes, settings, kit, progress)}
    table = Contents(
        name="suite",
        title=f"What does {Path(settings.model).name} notice of all that can go wrong with its inputs?",
        challenges=[challenge for name, members in families.items() for challenge in _of(name, members)],
        transferred=tuple(names),
        input_step=settings.input_step,
        notes=attacks.described(chosen),
        said=(*known, *dict.fromkeys(map(attacks.said, attacked)), *calm, *idle),
    )
    return fill(settings, kit, table, progress=progress, finished=finished)


def _of(family: str, challenges: Sequence[Challenge]) -> Iterator[Challenge]:
    for challenge in challenges:
        yield replace(challenge, facts=(*challenge.facts, (FAMILY, family)))
