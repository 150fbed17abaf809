"""The fourth table: is the prediction wrong? Right against wrong predictions of a trained classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from gradiometer.benchmarks import begun
from gradiometer.benchmarks.columns import ENTRIES, TRUST
from gradiometer.benchmarks.corruptions import corrupted
from gradiometer.benchmarks.evidence import Progress
from gradiometer.benchmarks.loading import Kit, TableSettings
from gradiometer.benchmarks.matched import TRUST as LEARNT_TRUST
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.possible import changing
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.sides import Challenge
from gradiometer.benchmarks.tabling import Contents, fill
from gradiometer.challenges import corruption
from gradiometer.challenges.attacks import predict
from gradiometer.data import Images, to_unit
from gradiometer.errors import InputError

PLAIN = "as they are"
"""Name of the row of test images that nothing was done to."""

TYPES = ("gaussian_noise", "defocus_blur", "fog", "jpeg_compression")
"""One corruption of each kind of CIFAR-10-C: noise, blur, weather, digital."""

BASELINE = "MSP (known-only)"
"""The column that all others are compared with: what a user has without any detector."""

DETECTORS = tuple(entry.name for entry in (*ENTRIES, *TRUST))
"""The known-only detectors of this table: all, and those that were made for wrong predictions."""

MATCHED = (
    "Purview",
    "Purview with channels",
    "Gradient norms",
    "Control",
    "Control (features)",
    "Control with confidence",
    "Control with channels",
    "Mahalanobis FE",
    "LID",
    *(learner.name for learner in LEARNT_TRUST),
)
"""Its matched detectors, which learn from one half of the images about which of them the model is wrong."""

TAUGHT = (
    "Purview",
    "Purview with class",
    "Control with confidence",
    "Control with class",
    "Pseudo-label norms",
    "Confidence alone",
)
"""Those among them that are tested on other damages than they learnt from, under the protocol `transfer`."""

FEWEST = 60
"""Base images with a right prediction, and with a wrong one, below which there is too little to divide."""


@dataclass(frozen=True, kw_only=True)
class MistakeSettings(TableSettings):
    """Settings of `gradiometer benchmark mistakes`: what every table has, and its own.

    Attributes:
        types: Corruptions by name, under which the same is asked; there may be none.
        levels: Their levels.
    """

    out: Path = Path("mistakes")
    protocols: tuple[str, ...] = ("known-only", "matched")
    types: tuple[str, ...] = TYPES
    levels: tuple[int, ...] = (3,)


def run(
    settings: MistakeSettings,
    *,
    progress: Progress | None = None,
    finished: Callable[[Sequence[Record]], None] | None = None,
) -> Outcome:
    """Tell wrong predictions from right ones, about test images as they are and corrupted; see `tabling.fill`.

    Known are the images of a row about which the model is right, the challenge are the others. Matched detectors learn
    from one half of the base images which predictions were wrong and are tested on the other half, as in the
    meta-classification of Oberdiek et al. (ANNPR 2018). Both sides keep their true proportion, so that figures of
    selective prediction are computed too.

    Args:
        settings: What to run.
        progress: Told about corruptions, readings and fits.
        finished: Called with the records of each row.

    Returns:
        Records, scores, readings and examples, for a report.

    Raises:
        InputError: If there is no such corruption or level, the known images have no labels, the model is right or
            wrong about almost all of them in every row, or the null test fails.
        ModelError: If the model cannot be loaded or read.
    """
    wanted = [(f"{name} {level}", corruption(name, level)) for name in settings.types for level in settings.levels]
    begun.check(settings)
    kit = Kit.of(settings)
    if kit.held_out.labels is None:
        raise InputError(
            f"{settings.known} has no labels, and whether a prediction is wrong cannot be said without them"
        )
    changes, idle = changing(wanted, kit)
    rows = [Challenge(PLAIN, kit.held_out, True), *corrupted(changes, settings, kit, progress)]
    asked = []
    for number, row in enumerate(rows):
        asked.append(_judged(row, _wrong(kit.model, row.images)))
        if progress is not None:
            progress("predicting", number + 1, len(rows))
    chosen = [row for row in asked if _lacking(row) is None]
    if not chosen:
        raise InputError(
            f"{_lacking(asked[0])}; no other row has enough of both. Take another model or more images (limit), and "
            "see that the labels are numbered like the outputs of the model"
        )
    table = Contents(
        name="mistakes",
        title=f"Is a prediction of {Path(settings.model).name} wrong?",
        challenges=chosen,
        detectors=DETECTORS,
        matched=MATCHED,
        taught=TAUGHT,
        synthetic=False,  # nobody can be wrong about what is no class
        pseudo_label=True,
        against=BASELINE,
        said=(*map(_said, chosen), *(f"Left out: {words}." for words in map(_lacking, asked) if words), *idle),
    )
    return fill(settings, kit, table, progress=progress, finished=finished)


def _wrong(model: nn.Module, images: Images) -> npt.NDArray[np.bool_]:
    """Which images (N,) the model puts in another class than theirs."""
    assert images.labels is not None
    found = [predict(model, to_unit(part)).cpu() for part in images.images.split(256)]
    wrong: npt.NDArray[np.bool_] = np.concatenate([part.numpy() for part in found]) != images.labels.numpy()
    return wrong


def _judged(row: Challenge, wrong: npt.NDArray[np.bool_]) -> Challenge:
    facts = (("rows: all", float(len(wrong))), ("rows: wrong", float(wrong.sum())))
    return Challenge(row.name, row.images, True, facts=facts, wrong=wrong)


def _lacking(row: Challenge) -> str | None:
    """Why a row cannot be divided, or None when it can."""
    assert row.wrong is not None
    groups = row.images.groups.numpy()
    for what, mask in (("right", ~row.wrong), ("wrong", row.wrong)):
        if (bases := len(np.unique(groups[mask]))) < FEWEST:
            return (
                f"{row.name}: the model is {what} about {mask.sum()} of {len(mask)} images ({bases} base images), and "
                f"{FEWEST} are needed to learn and test what is {what}"
            )
    return None


def _said(row: Challenge) -> str:
    facts = {name: float(value) for name, value in row.facts}
    share = facts["rows: wrong"] / facts["rows: all"]
    return (
        f"Images {row.name}: the model is wrong about {facts['rows: wrong']:.0f} of {facts['rows: all']:.0f} "
        f"({100 * share:.1f} %)."
    )
