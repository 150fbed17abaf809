"""Write the table of several trainings of one network from the paired differences of each.

    python docs/render_seeds.py

Reads the differences of the shipped network in `docs/results/protocols` and those of every folder of
`docs/results/seeds`; writes `docs/results/seeds/README.md`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradiometer.benchmarks import differences
from gradiometer.benchmarks.differences import MEAN, Difference

RESULTS = Path(__file__).resolve().parent / "results"
FOLDER = RESULTS / "seeds"

_ABOUT = """# Several trainings of one network

Rendered by `python docs/render_seeds.py`: paired differences of known-only detectors in points of AUROC, on average
over seven data sets, with 95 % bootstrap intervals over images. `shipped` is in [protocols](../protocols) (1,000
images of each set, 5,000 to fit), the others have 500 and 3,000; their cards are in [models](../models). An interval is
that of one training; the spread of a row says what another training changes.
"""


def rendered() -> str:
    """The page."""
    folders = {"shipped": RESULTS / "protocols"} | {p.parent.name: p.parent for p in sorted(FOLDER.glob("*/*.gz"))}
    found = {name: _means(folder) for name, folder in folders.items()}
    pairs = [pair for pair in found["shipped"] if all(pair in each for each in found.values())]
    lines = [
        f"| {found['shipped'][pair].title} | "
        + " | ".join(each[pair].in_points for each in found.values())
        + f" | {100 * np.mean([each[pair].auroc.value for each in found.values()]):+.2f} |"
        for pair in pairs
    ]
    head = f"| first − second | {' | '.join(found)} | mean |\n|---|{'---:|' * (len(found) + 1)}"
    return "\n".join([_ABOUT, head, *lines, ""])


def _means(folder: Path) -> dict[tuple[str, str], Difference]:
    """The differences of known-only columns, on average over all sets."""
    every = differences.read(folder / "differences.jsonl.gz")
    return {
        (entry.first, entry.second): entry
        for entry in every
        if entry.challenge == MEAN and all("known-only" in name for name in (entry.first, entry.second))
    }


def main() -> None:
    """Write the page."""
    (FOLDER / "README.md").write_text(rendered(), encoding="utf-8")


if __name__ == "__main__":
    main()
