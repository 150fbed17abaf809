"""One self-contained HTML page of the images that look least normal, with maps of where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradiometer import given
from gradiometer.anomaly import GradCon, Maps, Scale, Spots, maps_of
from gradiometer.data import Images
from gradiometer.detectors import Calibration
from gradiometer.errors import NotFittedError
from gradiometer.reports import figures
from gradiometer.reports.page import environment

Floats = npt.NDArray[np.float64]

Order = Literal["score", "spot"]
"""What images are ranked by."""

SMOOTHING = 1.0
"""Standard deviation of the filter of the maps, in pixels."""

_DECADES = 3.0
"""Powers of ten of rarity from the dark to the bright end of a map."""

KNOWN = 200
"""Known images that the scale of the maps is learnt from."""


@dataclass(frozen=True, eq=False)
class Suspect:
    """One image on the page.

    Attributes:
        name: Where it is from.
        score: Outlier score.
        p_value: Share of known images that look at least as strange.
        flagged: Whether it is flagged at the false-alarm rate.
        image: Data URI of the image.
        reconstruction: Data URI of the map of the reconstruction error.
        gradient: Data URI of the map of the gradient's length.
    """

    name: str
    score: float
    p_value: float
    flagged: bool
    image: str
    reconstruction: str
    gradient: str


def write(
    detector: GradCon, images: Images, known: Images, path: str | Path, *, by: Order = "score", top: int = 24
) -> Path:
    """Rank images and write the page of the most suspicious ones.

    The maps of all images share one scale: a pixel is as bright as it is rare among the pixels of known images, from
    one in ten to one in ten thousand. Nothing is stretched image by image, so a normal image stays dark.

    Args:
        detector: Calibrated.
        images: The images to rank.
        known: Normal images for the scale of the maps, best ones that the detector was not fitted on.
        path: The file; its folder is made when it is not there.
        by: Rank by the `score` of the detector, or by the most unusual `spot` of the reconstruction error, which finds
            small defects; the positions are then standardised by one half of the known images, and p-values come from
            the other half.
        top: Most images to show.

    Returns:
        The path.

    Raises:
        DependencyError: If jinja2 is missing.
        InputError: If `top` is below 1, images do not fit the detector, or known images are too few for the rate.
        NotFittedError: If the detector is not calibrated.
    """
    page = render(detector, images, known, by=by, top=top)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def render(detector: GradCon, images: Images, known: Images, *, by: Order = "score", top: int = 24) -> str:
    """The page as HTML without any external reference; see `write`."""
    templates = environment()
    given.whole("top", top)
    if detector.calibration is None:
        raise NotFittedError("a page of suspects needs p-values; call calibrate(held_out, false_alarm_rate) first")
    if by == "spot":
        scores, calibration = _by_spot(detector, images, known, detector.calibration.false_alarm_rate)
    else:
        scores, calibration = detector.predict(images.images.numpy()).numpy(), detector.calibration
    p_values, flagged = calibration.p_values(scores), calibration.flagged(scores)
    order = np.argsort(-scores, kind="stable")[:top]
    suspects = _suspects(detector, images.select(order), known, scores[order], p_values[order], flagged[order])
    return templates.get_template("suspects.html.j2").render(
        suspects=suspects,
        count=len(images),
        flagged=int(flagged.sum()),
        rate=f"{100 * calibration.false_alarm_rate:g}",
        calibrated=len(calibration),
        score="that of the most unusual spot" if by == "spot" else detector.score,
    )


def _by_spot(detector: GradCon, images: Images, known: Images, rate: float) -> tuple[Floats, Calibration]:
    """Scores by the most unusual position, and their calibration on the second half of the known images."""
    maps = maps_of(detector, known.images.numpy()).reconstruction
    spots = Spots.fit(maps[::2])
    scores = spots.score(maps_of(detector, images.images.numpy()).reconstruction)
    return scores, Calibration(spots.score(maps[1::2]), rate)


def _suspects(
    detector: GradCon, images: Images, known: Images, scores: Floats, p_values: Floats, flagged: npt.NDArray[np.bool_]
) -> list[Suspect]:
    some = np.linspace(0, len(known) - 1, min(KNOWN, len(known))).astype(np.int64)
    heats = heats_of(maps_of(detector, images.images.numpy()), maps_of(detector, known.select(some).images.numpy()))
    return [
        Suspect(
            name=name,
            score=float(scores[row]),
            p_value=float(p_values[row]),
            flagged=bool(flagged[row]),
            image=figures.data_uri(images.images[row].numpy()),
            reconstruction=figures.data_uri(heats[0][row]),
            gradient=figures.data_uri(heats[1][row]),
        )
        for row, name in enumerate(images.names)
    ]


def heats_of(found: Maps, normal: Maps) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Maps of images as colours, on one scale that normal images give.

    Args:
        found: Maps of B images.
        normal: Maps of normal images.

    Returns:
        Reconstruction and gradient energy, uint8 (B, 3, H, W) each.
    """
    found, normal = found.smoothed(SMOOTHING), normal.smoothed(SMOOTHING)
    reconstruction = Scale.fit(normal.reconstruction).level(found.reconstruction)
    return _heat(reconstruction), _heat(Scale.fit(normal.energy).level(found.energy))


def _heat(levels: Floats) -> npt.NDArray[np.uint8]:
    """Levels (B, H, W) in [0, 1] as colours (B, 3, H, W), from black over red to yellow."""
    rarity = -np.log10(np.maximum(1 - levels, 10 ** -(1 + _DECADES)))
    shine = np.clip((rarity - 1) / _DECADES, 0, 1)
    channels: list[Any] = [np.minimum(2 * shine, 1), np.clip(2 * shine - 1, 0, 1), np.zeros_like(shine)]
    return np.round(255 * np.stack(channels, axis=1)).astype(np.uint8)
