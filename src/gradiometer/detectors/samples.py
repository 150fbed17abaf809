"""What was read off the model: for one batch, and for a whole source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gradiometer.detectors.checks import signature
from gradiometer.detectors.fingerprints import Fingerprints, fingerprints
from gradiometer.detectors.inputs import Batch, all_or_none
from gradiometer.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a detector reads off the model for one batch.

    Attributes:
        outputs: Logits (B, C), or None when the model is no classifier.
        statistics: What the score is made from (B, F) float64.
        names: What was read; must be the same for every batch of one model.
        widths: Columns of the statistics that the first names stand for, where that is more than one each.
    """

    outputs: Tensor | None
    statistics: Floats
    names: tuple[str, ...]
    widths: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Samples:
    """What a detector read off the model for a whole source of N images.

    Attributes:
        statistics: (N, F) float64.
        predictions: Predicted classes (N,), or (0,) when the model is no classifier.
        labels: True classes (N,), or None when the source has none.
        groups: Base images (N,), or None when the source does not say.
        classes: Number of classes C of the model, 0 when it is no classifier.
        names: What was read.
        widths: Columns that the first names stand for, where that is more than one each.
        inputs: Shape of one sample of each tensor of the input.
        fingerprints: Digests of the images (N,).
    """

    statistics: Floats
    predictions: Integers
    labels: Integers | None
    groups: Integers | None
    classes: int
    names: tuple[str, ...]
    widths: tuple[int, ...]
    inputs: dict[str, list[int]]
    fingerprints: Fingerprints

    def __len__(self) -> int:
        """Number of images N."""
        return len(self.statistics)

    def labelled(self) -> Integers:
        """True classes (N,) with every class 0 to C - 1 present.

        Raises:
            InputError: No labels, labels outside 0 to C - 1, or a class without a sample.
        """
        if self.labels is None:
            raise InputError("this detector needs the true class of each known image; give (images, labels)")
        if self.labels.max() >= self.classes:
            raise InputError(f"label {self.labels.max()} is outside 0 to {self.classes - 1}, the classes of the model")
        missing = np.setdiff1d(np.arange(self.classes), self.labels)
        if len(missing):
            raise InputError(
                f"class(es) {', '.join(map(str, missing[:10]))} of the model's {self.classes} have no known image; "
                "give at least one of each class"
            )
        return self.labels


def collect(parts: Iterable[tuple[Batch, Measurement]], role: str) -> Samples:
    """Put together what was read batch by batch.

    Args:
        parts: Batches and what was read off the model for each.
        role: What the source is, for messages.

    Returns:
        The samples.

    Raises:
        InputError: There is none.
    """
    statistics, digests = [], []
    predictions: list[Integers] = []
    labels: list[Integers | None] = []
    groups: list[Integers | None] = []
    last: tuple[Batch, Measurement] | None = None
    for batch, measurement in parts:
        last = batch, measurement
        statistics.append(measurement.statistics)
        if measurement.outputs is not None:
            predictions.append(measurement.outputs.argmax(1).cpu().numpy())
        labels.append(batch.labels)
        groups.append(batch.groups)
        digests.append(fingerprints(batch.inputs))
    if last is None:
        raise InputError(f"all {role} have a negative label, which marks images that are not known; give known ones")
    return Samples(
        statistics=np.concatenate(statistics),
        predictions=np.concatenate(predictions) if predictions else np.empty(0, dtype=np.int64),
        labels=all_or_none(labels),
        groups=all_or_none(groups),
        classes=0 if last[1].outputs is None else last[1].outputs.shape[1],
        names=last[1].names,
        widths=last[1].widths,
        inputs=signature(last[0].inputs),
        fingerprints=np.concatenate(digests),
    )
