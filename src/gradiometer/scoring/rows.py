"""What is written for one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError

if TYPE_CHECKING:
    from gradiometer.detectors import Calibration, Verdict


class Judge(Protocol):
    """What can score: a calibrated detector, or a severity model."""

    calibration: Calibration | None

    @property
    def model(self) -> nn.Module:
        """The network."""
        ...

    @property
    def batch_size(self) -> int:
        """Images that go through it at once."""
        ...

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of the images that it takes; None when others do as well."""
        ...

    def judge(self, x: Any, /) -> Verdict:
        """The verdict for some images."""
        ...


@dataclass(frozen=True)
class Row:
    """One image: the verdict, or the reason why there is none.

    Attributes:
        name: The path, or the file and the number of the row.
        prediction: Predicted class; None when the model is no classifier. It and the following are None when the image
            could not be scored.
        confidence: Probability that the model gives to that class, in [0, 1].
        score: Outlier score; higher = less trustworthy.
        p_value: Share of known images that look at least as strange, in (0, 1].
        trustworthy: Whether the image passes at the false-alarm rate of the calibration.
        reason: The readings that are most out of line, for images that are flagged.
        error: Why the image could not be scored, else None.
    """

    name: str
    prediction: int | None = None
    confidence: float | None = None
    score: float | None = None
    p_value: float | None = None
    trustworthy: bool | None = None
    reason: str | None = None
    error: str | None = None

    def values(self) -> tuple[Any, ...]:
        """The values in the order of `COLUMNS`."""
        return astuple(self)


COLUMNS: tuple[str, ...] = tuple(entry.name for entry in fields(Row))
"""Names of the columns, in order."""


def rows_of(names: Sequence[str], verdict: Verdict) -> Iterator[Row]:
    """One row for each image of a verdict.

    Args:
        names: Names of the B images.
        verdict: The verdict of the B images.

    Yields:
        The rows, in order.
    """
    profile = verdict.reasons
    for position, name in enumerate(names):
        trustworthy = bool(verdict.trustworthy[position])
        yield Row(
            name=name,
            prediction=None if verdict.predictions is None else int(verdict.predictions[position]),
            confidence=None if verdict.confidences is None else float(verdict.confidences[position]),
            score=float(verdict.scores[position]),
            p_value=float(verdict.p_values[position]),
            trustworthy=trustworthy,
            reason=None if trustworthy else profile.words(position, 3),
        )


def judged(detector: Judge, names: Sequence[str], images: Tensor) -> list[Row]:
    """A row for each image, with the reason for those that the detector refuses.

    Args:
        detector: A calibrated detector.
        names: Names of the B images.
        images: The images (B, K, H, W).

    Returns:
        The rows, in order. When the detector refuses the images together, each is tried alone.
    """
    try:
        return list(rows_of(names, detector.judge(images)))
    except (InputError, ModelError) as error:
        if len(images) == 1:
            return [Row(names[0], error=str(error))]
    return [row for name, image in zip(names, images, strict=True) for row in judged(detector, [name], image[None])]
