"""Write the pages of the whole suite from the records and paired differences of each network.

    python docs/render_suite.py

Reads every folder of `docs/results/suite`, `suite-other-known` and `suite-unseen`; writes `README.md` into all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gradiometer.benchmarks import differences, records
from gradiometer.benchmarks.differences import BALANCED, JUDGE, MEAN, Difference, mean_of
from gradiometer.benchmarks.families import Shortfall, areas, ranked_shortfalls, shortfalls
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.suite import ATTACKS, CORRUPTED, SETS

RESULTS = Path(__file__).resolve().parent / "results"

NINE = ("MSP", "Energy", "ODIN", "Mahalanobis", "Mahalanobis (layers)", "KNN", "ViM", "ReAct", "GradNorm")
"""The baselines that Guard is to be six points ahead of."""

SEVEN = "Guard of seven (known-only)"
"""The same without the pass of the smoothed image and its member."""

FIVE = "Guard of five (known-only)"
"""Guard of seven without two of its members."""

STEPPED = ("Guard with a step (known-only)", "Guard of seven with a step (known-only)")
"""Both with one more member, for a pass of images moved a little."""

NORMALISED = "Normalised Mahalanobis"
"""The baseline that it is to be three points ahead of."""

_MEANS = (MEAN, mean_of(SETS), mean_of(ATTACKS), mean_of(CORRUPTED), BALANCED)
_SHOWN = 6

_COUNTED = """Every kind counts once in the *mean*, so that corruptions weigh most; in the *mean of families* the
three families weigh the same. Differences are in points of AUROC, with 95 % bootstrap intervals over images, resampled
within kinds; an interval is that of one training. The networks' cards are in [models](../models). `tables.md` in each
folder has all cells.
"""

ABOUT = {
    "suite": f"""# The whole suite

Rendered by `python docs/render_suite.py` from the records of `gradiometer benchmark suite`: known-only detectors on
seven data sets, seven attacks and the nineteen corruptions of CIFAR-10-C at level 3, 300 images of each kind, half of
them tested. Networks with figures of *Guard of seven* alone were measured before there was a pass of the smoothed
image, and before feature squeezing was among the baselines.

{_COUNTED}""",
    "suite-other-known": f"""# The suite with other known images

Rendered by `python docs/render_suite.py` from the records of `gradiometer benchmark suite`: as in
[the suite](../suite), but on networks that were trained for traffic signs, clothes and digits. Grey images have no
kinds that change colours alone. Nothing about `Guard` was chosen on these but the scale of confidence
([the text](../../science/detection.md#other-known-images) says how).

{_COUNTED}""",
    "suite-unseen": f"""# The suite with detectors fitted on images that the network has not seen

Rendered by `python docs/render_suite.py` from the records of `gradiometer benchmark suite --fit-unseen`: networks,
challenges and tested images as in [the suite](../suite) and [with other known images](../suite-other-known), but
detectors are fitted on 3,000 test images that are not tested, in place of training images of the network.

{_COUNTED}""",
}
"""Folder -> how its page begins."""

_AVERAGED, _UNSEEN = "suite", "suite-unseen"
"""The folder whose networks were trained for the same images, so that a mean over them means something; and the one
whose figures have others on the same images to stand beside."""

_FITTED = (JUDGE, SEVEN, *(f"{name} (known-only)" for name in ("Control", NORMALISED, *NINE[3:7])))
"""What is fitted on known images, of which two figures stand beside each other."""


def rendered(name: str) -> str:
    """The page of a folder."""
    folders = {path.parent.name: path.parent for path in sorted((RESULTS / name).glob("*/records.jsonl.gz"))}
    found = {name: _differences(folder) for name, folder in folders.items()}
    every = {name: records.read(folder / "records.jsonl.gz") for name, folder in folders.items()}
    there = {record.column for entries in every.values() for record in entries}
    columns = [column for column in (JUDGE, SEVEN, FIVE, *STEPPED) if column in there]
    behind = {column: {name: shortfalls(found, column) for name, found in every.items()} for column in columns}
    parts = [ABOUT[name], _asked(found, behind)]
    if name == _AVERAGED:
        parts.append(_averaged({n: r for n, r in every.items() if behind[JUDGE][n]}))
    if name == _UNSEEN:
        parts.append(_beside_seen(every))
    parts += [f"## Differences: {title}\n\n{_table(found, title)}" for title in _MEANS]
    parts.append("## Where the best baseline is furthest ahead")
    for column, each in behind.items():
        for name, entries in filter(lambda item: item[1], each.items()):
            parts.append(f"### {_plain(column)}, {name}\n\n{_shortfalls(entries[:_SHOWN])}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


Areas = Mapping[str, Mapping[str, float]]
"""Kind -> detector -> AUROC."""

Found = dict[str, dict[tuple[str, str, str], Difference]]
"""Network -> first column, second column and row -> their difference."""


def _asked(found: Found, behind: dict[str, dict[str, list[Shortfall]]]) -> str:
    """What was asked of Guard, and what it reaches on each network."""
    head = f"| asked of the mean over all kinds | {' | '.join(found)} |\n|---|{'---:|' * len(found)}"
    rows = {"kinds": [str(len(entries)) for entries in behind[SEVEN].values()]}
    for column in behind:
        said = f",{_plain(column).removeprefix('Guard')}" if column != JUDGE else ""
        if column not in STEPPED:
            rows[f"6 points ahead of the best of nine baselines{said}"] = [
                _lead(each, column, NINE, 0.06) for each in found.values()
            ]
            rows[f"3 points ahead of normalised Mahalanobis{said}"] = [
                _lead(each, column, (NORMALISED,), 0.03) for each in found.values()
            ]
        rows[f"at most 6 points behind the best baseline on any kind{said}"] = [
            _worst(entries) for entries in behind[column].values()
        ]
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(["## What was asked, and what is reached", "", head, *lines])


def _lead(each: Mapping[tuple[str, str, str], Difference], column: str, rivals: Sequence[str], asked: float) -> str:
    """The smallest lead of a column over some baselines, where it was compared with them."""
    keys = [(column, f"{rival} (known-only)", MEAN) for rival in rivals]
    leads = [each[key] for key in keys if key in each]
    if not leads:
        return "-"
    lead = min(leads, key=lambda entry: entry.auroc.value)
    over = f", {_plain(lead.second)}" if len(rivals) > 1 else ""
    return f"{lead.in_points}{over}: {_met(lead.auroc.value, asked)}"


def _worst(entries: Sequence[Shortfall]) -> str:
    """The largest shortfall."""
    return f"{100 * entries[0].gap:.1f}, {entries[0].challenge}: {_met(-entries[0].gap, -0.06)}" if entries else "-"


def _averaged(every: Mapping[str, Sequence[Record]]) -> str:
    """The same goals for means over trainings: of each architecture, and of both, which weigh the same."""
    groups: dict[str, list[Areas]] = {}
    for name, entries in every.items():
        groups.setdefault(name.partition("-")[0], []).append(areas(entries))
    each = {f"{name}, {len(trainings)} trainings": _means(trainings) for name, trainings in groups.items()}
    titles = ("means over", "detector", "AUROC", "ahead of the best of nine", "most behind, of all kinds")
    lines = []
    for name, found in (*each.items(), ("both architectures, each one half", _means(list(each.values())))):
        kinds = list(found.values())
        mean = {detector: float(np.mean([values[detector] for values in kinds])) for detector in kinds[0]}
        best = max((f"{rival} (known-only)" for rival in NINE), key=lambda rival: mean[rival])
        for column in (JUDGE, SEVEN):
            lead = mean[column] - mean[best]
            lines.append(
                f"| {name} | {_plain(column)} | {100 * mean[column]:.1f} | {100 * lead:+.2f}, {_plain(best)}: "
                f"{_met(lead, 0.06)} | {_worst(ranked_shortfalls(found, {}, column))} |"
            )
    about = (
        "Of the networks that were measured with all eight members. The AUROC of every kind is averaged over\n"
        "trainings first, that of Guard and that of every baseline; alone, each is a figure of 150 images and one "
        "training."
    )
    head = f"| {' | '.join(titles)} |\n|---|---|---:|---:|---:|"
    return "\n".join(["## Averaged over trainings", "", about, "", head, *lines])


def _beside_seen(every: Mapping[str, Sequence[Record]]) -> str:
    """Mean AUROC of what was fitted on training images, and on images that the network has not seen."""
    lines = []
    for name, unseen in every.items():
        path = next(path for path in RESULTS.glob(f"*/{name}/records.jsonl.gz") if path.parent.parent.name != _UNSEEN)
        pair = [areas(records.read(path)), areas(unseen)]
        means = [[100 * np.mean([kind[column] for kind in found.values()]) for column in _FITTED] for found in pair]
        cells = (f"{seen:.1f} → {new:.1f} ({new - seen:+.1f})" for seen, new in zip(*means, strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    head = f"| network | {' | '.join(map(_plain, _FITTED))} |\n|---|{'---:|' * len(_FITTED)}"
    return "\n".join(["## Fitted on training images, and on images that are new to the network", "", head, *lines])


def _means(trainings: Sequence[Areas]) -> Areas:
    """AUROC of every detector that all trainings were measured with, averaged over them."""
    means: dict[str, dict[str, float]] = {}
    for kind, values in trainings[0].items():
        each = [found[kind] for found in trainings]
        shared = [name for name in values if all(name in found for found in each)]
        means[kind] = {name: float(np.mean([found[name] for found in each])) for name in shared}
    return means


def _plain(column: str) -> str:
    return column.removesuffix(" (known-only)")


def _table(found: Found, title: str) -> str:
    pairs = list(dict.fromkeys((first, second) for each in found.values() for first, second, _ in each))
    head = f"| first − second | {' | '.join(found)} | mean |\n|---|{'---:|' * (len(found) + 1)}"
    lines = []
    for first, second in pairs:
        entries = [each.get((first, second, title)) for each in found.values()]
        there = [entry for entry in entries if entry is not None]
        average = 100 * np.mean([entry.auroc.value for entry in there])
        cells = " | ".join("-" if entry is None else entry.in_points for entry in entries)
        lines.append(f"| {there[0].title} | {cells} | {average:+.2f} |")
    return "\n".join([head, *lines])


def _shortfalls(entries: list[Shortfall]) -> str:
    lines = [
        f"| {entry.challenge} | {entry.family} | {100 * entry.guard:.1f} | {100 * entry.best:.1f} "
        f"({_plain(entry.baseline)}) | {100 * entry.gap:+.1f} |"
        for entry in entries
    ]
    return "\n".join(["| kind | family | Guard | best baseline | behind by |\n|---|---|---:|---:|---:|", *lines])


def _differences(folder: Path) -> dict[tuple[str, str, str], Difference]:
    every = differences.read(folder / "differences.jsonl.gz")
    return {(entry.first, entry.second, entry.challenge): entry for entry in every}


def _met(value: float, asked: float) -> str:
    return "met" if value >= asked else "**missed**"


def main() -> None:
    """Write the pages."""
    for name in ABOUT:
        (RESULTS / name / "README.md").write_text(rendered(name), encoding="utf-8")


if __name__ == "__main__":
    main()
