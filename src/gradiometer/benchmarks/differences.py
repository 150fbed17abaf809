"""Paired differences between detectors on the same images, which say more than two intervals side by side."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from gradiometer.benchmarks import lines, selective
from gradiometer.benchmarks.metrics import Floats, Interval, percentile_interval, resampled_auroc
from gradiometer.benchmarks.records import read_text
from gradiometer.benchmarks.selective import Groups
from gradiometer.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from gradiometer.benchmarks.outcome import Scores

MEAN = "mean"
"""Name of the row over all challenges."""

BALANCED = "mean of families"
"""Name of the row over the means of families, each of which counts once however many challenges it has."""

CONTROLLED: tuple[tuple[str, str], ...] = (
    ("Guard with gradients (known-only)", "Guard (known-only)"),
    ("Guard (known-only)", "Guard of seven (known-only)"),
    ("Guard of seven (known-only)", "Guard of five (known-only)"),
    ("Guard with a step (known-only)", "Guard (known-only)"),
    ("Purview (known-only)", "Control (known-only)"),
    ("GAIA-Z (known-only)", "GAIA-Z control (known-only)"),
    ("GAIA-A (known-only)", "GAIA-A control (known-only)"),
    ("GradPCA (known-only)", "GradPCA control (known-only)"),
    ("Purview (matched)", "Control (matched)"),
    ("Purview (matched)", "Control (features) (matched)"),
    ("Gradient norms (matched)", "Control (features) (matched)"),
    ("Purview (matched)", "Control with confidence (matched)"),
    ("Purview with channels (matched)", "Control with channels (matched)"),
    ("Purview with channels (matched)", "Purview (matched)"),
    ("Pseudo-label norms (matched)", "Confidence alone (matched)"),
    ("Pseudo-label norms (matched)", "Control with confidence (matched)"),
    ("Pseudo-label with confidence (matched)", "Control with confidence (matched)"),
    ("Purview with class (matched)", "Control with class (matched)"),
    ("Purview (matched)", "Control with class (matched)"),
    ("Purview (matched)", "Mahalanobis FE (matched)"),
    ("Purview (matched)", "LID (matched)"),
)
"""Columns with gradients or a second pass, and those without that they are compared with."""

JUDGE = "Guard (known-only)"
"""The column of the detector that is shown where one has to be, and that is compared with all others."""

GUARDS = (JUDGE, "Guard of seven (known-only)", "Guard of five (known-only)")
"""The columns that are compared with all others; tables from before there was the first are judged by the next."""

_RIVALS = "known-only"

_Areas = dict[str, tuple[float, Floats]]
"""Challenge -> a figure, on all images and on every resample (draws,)."""


@dataclass(frozen=True)
class Difference:
    """The AUROC of one column minus that of another.

    Attributes:
        benchmark: Name of the table.
        model: Specification of the model.
        known: Name of the known data.
        challenge: Name of the challenge, `mean` over all of them, `mean of` those of one family, or `mean of families`.
        challenges: How many it is about.
        first: The column that is in favour when the difference is positive.
        second: The other column.
        auroc: The difference with its interval.
        seed: Of the bootstrap.
        draws: Resamples behind the interval.
        confidence: Of the interval.
        weights_sha256: Hash of the weights of the model.
        aurc: The difference of the areas under the risk-coverage curves, in favour of the first when it is negative;
            where right and wrong predictions were told apart.
    """

    benchmark: str
    model: str
    known: str
    challenge: str
    challenges: int
    first: str
    second: str
    auroc: Interval
    seed: int
    draws: int
    confidence: float
    weights_sha256: str
    aurc: Interval | None = None

    @property
    def title(self) -> str:
        """The two columns, for a page of known-only ones."""
        return " − ".join(column.removesuffix(f" ({_RIVALS})") for column in (self.first, self.second))

    @property
    def in_points(self) -> str:
        """The difference with its interval in points, for a page."""
        value, low, high = (100 * figure for figure in (self.auroc.value, self.auroc.low, self.auroc.high))
        return f"{value:+.2f} ({low:.2f} to {high:.2f})"

    def to_json(self) -> str:
        """One line of JSON."""
        entries = asdict(self)
        if self.aurc is None:
            del entries["aurc"]
        return json.dumps(entries, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The inverse of `to_json`.

        Raises:
            ArtefactError: If the line is no difference.
        """
        try:
            entries = json.loads(line)
            areas = {name: Interval(**entries[name]) for name in ("auroc", "aurc") if name in entries}
            return cls(**{**entries, **areas})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ArtefactError(f"not a paired difference: {line[:60]!r} ({error})") from error


def pairs(columns: Sequence[str], against: str = "") -> list[tuple[str, str]]:
    """Which of some columns are compared: each Guard with all other known-only ones, and what has a control with that.

    Args:
        columns: The columns that are there, such as `MSP (known-only)`.
        against: A column that all others are compared with too, or empty.
    """
    found = [pair for pair in CONTROLLED if all(name in columns for name in pair)]
    for judge in (column for column in GUARDS if column in columns):
        rivals = [name for name in columns if name.endswith(f"({_RIVALS})") and name != judge]
        found += [(judge, name) for name in rivals if {(judge, name), (name, judge)}.isdisjoint(found)]
    if against in columns:
        others = [name for name in columns if name != against]
        found += [(name, against) for name in others if (name, against) not in found]
    return found


def mean_of(family: str) -> str:
    """Name of the row over the challenges of a family."""
    return f"{MEAN} of {family}"


def differences(
    scores: Sequence[Scores],
    about: Mapping[str, str],
    *,
    families: Mapping[str, str] | None = None,
    groups: Mapping[str, Groups] | None = None,
    against: str = "",
    seed: int = 0,
    draws: int = 1000,
    confidence: float = 0.95,
) -> list[Difference]:
    """The differences of a table, for every challenge and on average over those that both columns have scored.

    Args:
        scores: Scores of all columns on all challenges; those of the protocol `transfer` are left out.
        about: `benchmark`, `model`, `known` and `weights_sha256`.
        families: To which family each challenge belongs; there is then a mean over each, and one over these means.
        groups: Base images of both sides of the challenges that are wrong predictions beside right ones, for their
            areas under the risk-coverage curve.
        against: A column that all others are compared with too, or empty.
        seed: Seeds the bootstrap.
        draws: Bootstrap resamples.
        confidence: Of the intervals.

    Returns:
        Pair by pair.
    """
    areas: dict[str, _Areas] = {}
    risks: dict[str, _Areas] = {}
    for entry in scores:
        if entry.protocol != "transfer":
            found = resampled_auroc(entry.runs, seed=seed, draws=draws)
            areas.setdefault(entry.column, {})[entry.challenge] = found
            if groups and entry.challenge in groups:
                value, drawn = selective.resampled(entry.runs, groups[entry.challenge], seed=seed, draws=draws)
                risks.setdefault(entry.column, {})[entry.challenge] = value["aurc"], drawn["aurc"]
    made = []
    for first, second in pairs(list(areas), against):
        shared = [name for name in areas[first] if name in areas[second]]
        means = _means(shared, families or {})
        found_areas = _minus(areas[first], areas[second], means, confidence)
        found_risks = _minus(risks.get(first, {}), risks.get(second, {}), means, confidence)
        counts = dict.fromkeys(shared, 1) | {title: len(names) for title, names in means.items()}
        if BALANCED in counts:
            counts[BALANCED] = len(shared)
        made += [
            Difference(
                challenge=name,
                challenges=counts[name],
                first=first,
                second=second,
                auroc=area,
                aurc=found_risks.get(name),
                seed=seed,
                draws=draws,
                confidence=confidence,
                benchmark=about["benchmark"],
                model=about["model"],
                known=about["known"],
                weights_sha256=about["weights_sha256"],
            )
            for name, area in found_areas.items()
        ]
    return made


def _minus(first: _Areas, second: _Areas, means: Mapping[str, Sequence[str]], confidence: float) -> dict[str, Interval]:
    """The differences of two columns on each challenge that both have, and of the means that can be made of those."""
    shared = [name for name in first if name in second]
    values = {name: first[name][0] - second[name][0] for name in shared}
    drawn = {name: first[name][1] - second[name][1] for name in shared}
    for title, names in means.items():
        if all(name in values for name in names):
            values[title] = float(np.mean([values[name] for name in names]))
            drawn[title] = np.mean([drawn[name] for name in names], axis=0)
    return {name: percentile_interval(value, drawn[name], confidence=confidence) for name, value in values.items()}


def _means(challenges: Sequence[str], families: Mapping[str, str]) -> dict[str, list[str]]:
    """Rows that are means of other rows, in the order in which they can be made."""
    if len(challenges) < 2:
        return {}
    rows = {MEAN: list(challenges)}
    there = [name for name in dict.fromkeys(families.values()) if any(families.get(c) == name for c in challenges)]
    for family in there:
        rows[mean_of(family)] = [name for name in challenges if families.get(name) == family]
    if len(there) > 1:
        rows[BALANCED] = [mean_of(family) for family in there]
    return rows


def write(path: Path, found: Iterable[Difference]) -> None:
    """Write differences as a new JSON-lines file."""
    lines.write(path, (entry.to_json() for entry in found))


def read(path: str | os.PathLike[str]) -> list[Difference]:
    """All differences of a JSON-lines file; one that ends in `.gz` is unpacked.

    Raises:
        ArtefactError: If a line is no difference.
        InputError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file of differences at {path}")
    return [Difference.from_json(line) for line in read_text(path).splitlines()]
