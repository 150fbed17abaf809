"""The second table: a trained classifier under attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gradiometer.benchmarks import begun
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit, TableSettings
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.possible import changing
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.sides import Challenge
from gradiometer.benchmarks.tabling import Contents, fill
from gradiometer.challenges import (
    ATTACKS,
    PURVIEW_SIX,
    AttackedSet,
    NamedAttack,
    attack,
    attack_images,
    attacked_set,
    matched_deviation,
)
from gradiometer.data import Images
from gradiometer.errors import InputError

CONFIDENCE = 2.0
"""Confidence of Carlini and Wagner's attack: without one, storing in 8 bits takes many of its changes back."""

MOST_NOISE = 8 / 255
"""Largest deviation of the noise: attacks that change the whole image are not matched, or nothing could be read."""

_FEWEST = 60
"""Rows below which the rule leaves too little to divide; the attack is then shown with all rows alone."""

UNFILTERED = ", all rows"
"""Ends the name of an attack whose rows were not filtered."""


@dataclass(frozen=True, kw_only=True)
class AttackSettings(TableSettings):
    """Settings of `gradiometer benchmark attacks`: what every table has, and its own.

    Attributes:
        attacks: Names of attacks.
        confidence: Of Carlini and Wagner's attack.
        trials: Of the shift of colours, for each image.
        unfiltered: Whether the table has a second row for each attack, with all rows and without noisy images.
        input_step: Whether Mahalanobis P+FE is among the matched detectors, at the price of fifteen passes an image.
        attack_batch: Images that are attacked at once.
    """

    out: Path = Path("attacks")
    attacks: tuple[str, ...] = tuple(ATTACKS)
    confidence: float = CONFIDENCE
    trials: int = 1000
    unfiltered: bool = True
    input_step: bool = True
    attack_batch: int = 100


def title_of(name: str) -> str:
    """The name of an attack in the published table, with our own where that name means several."""
    row = next((title for title, names in PURVIEW_SIX.items() if name in names), name)
    return row if len(PURVIEW_SIX.get(row, ())) < 2 else f"{row} ({name.replace('_', ' ')})"


def run(
    settings: AttackSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Attack the held-out images and compare all detectors; see `tabling.fill`.

    Known are the originals and equally noisy images, twice as many as attacked ones, and only rows count for which the
    model is right about the first two and wrong about the third (K. Lee et al., NeurIPS 2018). Attacked images are kept
    in `out/attacked`.

    Args:
        settings: What to run.
        progress: Told about attacks, readings and fits.
        finished: Called with the records of each challenge.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If there is no such attack, the known images have no labels, or the null test fails.
        DependencyError: If Foolbox is missing.
    """
    asked = named(settings)
    begun.check(settings)
    kit = Kit.of(settings)
    chosen, idle = changing(asked, kit)
    challenges = attacked(chosen, settings, kit, progress)
    table = Contents(
        name="attacks",
        title=f"Does {Path(settings.model).name} notice that it is attacked?",
        challenges=challenges,
        transferred=tuple(title for title, _ in chosen),
        input_step=settings.input_step,
        notes=described(chosen),
        said=(*dict.fromkeys(map(said, challenges)), *idle),
    )
    return fill(settings, kit, table, progress=progress, finished=finished)


def named(settings: AttackSettings) -> list[tuple[str, NamedAttack]]:
    """The attacks of some settings, each after its title.

    Raises:
        InputError: If there is no such attack.
    """
    own: dict[str, dict[str, float]] = {
        "carlini_wagner": {"confidence": settings.confidence},
        "colour_shift": {"trials": settings.trials, "seed": settings.seed},
    }
    return [(title_of(name), attack(name, **own.get(name, {}))) for name in settings.attacks]


def described(chosen: Sequence[tuple[str, NamedAttack]]) -> tuple[tuple[str, str], ...]:
    """Notes on attacks, for the records."""
    return tuple((f"attack {entry.name}", entry.description) for _, entry in chosen)


def attacked(
    chosen: Sequence[tuple[str, NamedAttack]], settings: AttackSettings, kit: Kit, progress: Progress | None = None
) -> list[Challenge]:
    """Attack the held-out images, and put originals and equally noisy images beside them.

    Args:
        chosen: The attacks, each after its title.
        settings: How they are filtered; attacked images are kept in `out/attacked`.
        kit: Model and known images.
        progress: Told about attacks.

    Raises:
        InputError: If the known images have no labels.
        DependencyError: If Foolbox is missing.
    """
    if kit.held_out.labels is None:
        raise InputError(f"{settings.known} has no labels, and whether an attack succeeds cannot be said without them")
    return [made for title, entry in chosen for made in _challenges(title, entry, settings, kit, progress)]


def _challenges(
    title: str, chosen: NamedAttack, settings: AttackSettings, kit: Kit, progress: Progress | None
) -> Iterator[Challenge]:
    images = attack_images(
        chosen,
        kit.model,
        kit.held_out,
        batch_size=settings.attack_batch,
        seed=settings.seed,
        cache=settings.out / "attacked",
        progress=None if progress is None else lambda done, total: progress(f"attacking: {title}", done, total),
    )
    deviation = min(matched_deviation(kit.held_out, images), MOST_NOISE)
    every = attacked_set(kit.model, kit.held_out, images, deviation=deviation, keep_all=True, seed=settings.seed)
    facts = _facts(every, deviation)
    enough = every.counts["kept"] >= _FEWEST
    if enough:
        clean, noisy, kept = (part.select(every.passed) for part in (every.clean, every.noisy, every.attacked))
        yield Challenge(title, kept, True, _beside(clean, noisy), facts)
    if settings.unfiltered or not enough:
        yield Challenge(f"{title}{UNFILTERED}", images, True, None, facts)


def _beside(clean: Images, noisy: Images) -> Images:
    """Originals and noisy images as one set; both versions of an image have its base image."""
    return replace(
        clean,
        images=torch.cat([clean.images, noisy.images]),
        labels=None,
        names=(*clean.names, *(f"{name}, noisy" for name in noisy.names)),
        groups=torch.cat([clean.groups, noisy.groups]),
        classes=(),
    )


def _facts(kept: AttackedSet, deviation: float) -> tuple[tuple[str, float | str], ...]:
    counts = kept.counts
    return (
        ("noise deviation", round(deviation, 6)),
        ("success rate", round(counts["attacked wrong"] / counts["all"], 4)),
        *((f"rows: {name}", float(count)) for name, count in counts.items()),
    )


def said(challenge: Challenge) -> str:
    """What an attack did, in one sentence."""
    facts = {name: float(value) for name, value in challenge.facts}
    return (
        f"{challenge.name.removesuffix(UNFILTERED)}: wrong on {100 * facts['success rate']:.1f} % of attacked images; "
        f"noise of {facts['noise deviation']:.4f} beside it; {facts['rows: kept']:.0f} of {facts['rows: all']:.0f} "
        "rows count."
    )
