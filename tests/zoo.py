"""The zoo: deliberately awkward tiny networks, which together specify the instrument.

Every statistic on every network must equal the loop over single samples. The networks live in `tests/specimens`, one
family a file; `python -m tests.zoo` measures the instrument on all of them and prints the worst relative error of each.
"""

from __future__ import annotations

from tests.specimens.convolutions import CONVOLUTIONS
from tests.specimens.dense import DENSE
from tests.specimens.normalizations import NORMALIZATIONS
from tests.specimens.parameters import PARAMETERS
from tests.specimens.plumbing import PLUMBING
from tests.specimens.record import BATCH, Inputs, Specimen, call, over, samples, select, take
from tests.specimens.sequences import SEQUENCES
from tests.specimens.vision import VISION

__all__ = ["BATCH", "ZOO", "Inputs", "Specimen", "call", "over", "samples", "select", "specimen", "take"]

ZOO: tuple[Specimen, ...] = DENSE + CONVOLUTIONS + NORMALIZATIONS + PARAMETERS + SEQUENCES + PLUMBING + VISION
"""All networks, in the order of their families."""

_BY_NAME = {each.name: each for each in ZOO}
if len(_BY_NAME) != len(ZOO):
    raise ValueError("two specimens share a name")


def specimen(name: str) -> Specimen:
    """Returns the specimen of that name."""
    return _BY_NAME[name]


if __name__ == "__main__":
    from tests.zoo_report import main

    raise SystemExit(main())
