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
from gradiometer.detectors import Calibration, images_needed
from gradiometer.errors import InputError, NotFittedError
from gradiometer.reports import figures
from gradiometer.reports.page import environment, put

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
    detector: GradCon,
    images: Images,
    known: Images,
    path: str | Path,
    *,
    by: Order = "score",
    top: int = 24,
    out_of: int | None = None,
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
            the other half, which has to be as large as the rate asks for (38 known images for 5 %). The map of the
            reconstruction error is then the standardised one, so that it is brightest at the spot.
        top: Most images to show.
        out_of: How many images there are, if only some of them are given; the page then says so.

    Returns:
        The path.

    Raises:
        ArtefactError: If the file cannot be written.
        DependencyError: If jinja2 is missing.
        InputError: If `top` is below 1, images do not fit the detector, or known images are too few for the rate.
        NotFittedError: If the detector is not calibrated.
    """
    return put(render(detector, images, known, by=by, top=top, out_of=out_of), path)


def render(
    detector: GradCon,
    images: Images,
    known: Images,
    *,
    by: Order = "score",
    top: int = 24,
    out_of: int | None = None,
) -> str:
    """The page as HTML without any external reference; see `write`."""
    templates = environment()
    given.whole("top", top)
    if detector.calibration is None:
        raise NotFittedError("a page of suspects needs p-values; call calibrate(held_out, false_alarm_rate) first")
    levels: Floats | None = None
    if by == "spot":
        scores, calibration, levels = _by_spot(detector, images, known, detector.calibration.false_alarm_rate)
    else:
        scores, calibration = detector.predict(images.images.numpy()).numpy(), detector.calibration
    p_values, flagged = calibration.p_values(scores), calibration.flagged(scores)
    order = np.argsort(-scores, kind="stable")[:top]
    shown = images.select(order)
    reconstruction, gradient = _heats(detector, shown, known)
    if levels is not None:
        reconstruction = _heat(levels[order])
    suspects = [
        Suspect(
            name=name,
            score=float(scores[row]),
            p_value=float(p_values[row]),
            flagged=bool(flagged[row]),
            image=figures.data_uri(shown.images[at].numpy()),
            reconstruction=figures.data_uri(reconstruction[at]),
            gradient=figures.data_uri(gradient[at]),
        )
        for at, (name, row) in enumerate(zip(shown.names, order, strict=True))
    ]
    return templates.get_template("suspects.html.j2").render(
        suspects=suspects,
        count=len(images),
        flagged=int(flagged.sum()),
        rate=f"{100 * calibration.false_alarm_rate:g}",
        calibrated=len(calibration),
        score="that of the most unusual spot" if by == "spot" else detector.score,
        by=by,
        out_of=out_of,
    )


def _by_spot(detector: GradCon, images: Images, known: Images, rate: float) -> tuple[Floats, Calibration, Floats]:
    """Scores by the most unusual position, and the levels of all positions, in the eyes of the known images.

    Each position is standardised by the first half of the known images; the threshold, and the scale of the levels
    (N, H, W), come from the second half.
    """
    if len(known) // 2 < (fewest := images_needed(rate)):
        raise InputError(
            f"by spot the threshold is set on every other known image, so that a false-alarm rate of {rate:g} needs "
            f"{2 * fewest} of them, and there are {len(known)}; give more, or rank by the score"
        )
    maps = maps_of(detector, known.images.numpy()).reconstruction
    spots = Spots.fit(maps[::2])
    others, found = spots.standardised(maps[1::2]), maps_of(detector, images.images.numpy()).reconstruction
    levels = Scale.fit(others).level(spots.standardised(found))
    return spots.score(found), Calibration(others.max((1, 2)), rate), levels


def _heats(detector: GradCon, images: Images, known: Images) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Both maps of images as colours, on the scale of some of the known images."""
    some = np.linspace(0, len(known) - 1, min(KNOWN, len(known))).astype(np.int64)
    return heats_of(maps_of(detector, images.images.numpy()), maps_of(detector, known.select(some).images.numpy()))


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
