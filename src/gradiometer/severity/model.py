"""Severity: how far a scan is from healthy ones, as the gradient response of an auto-encoder of healthy scans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from gradiometer.anomaly import GradCon, Maps, maps_of
from gradiometer.anomaly.detector import Score
from gradiometer.detectors import Calibration, Verdict, storage
from gradiometer.detectors.fingerprints import check_none_fitted
from gradiometer.detectors.storage import Artefact
from gradiometer.errors import ArtefactError, InputError, NotFittedError
from gradiometer.severity.preparation import Preparation, numbered, pixels_of

Floats = npt.NDArray[np.float64]

Pool = Literal["mean", "max"]
"""How the scores of tiles become that of their scan."""

HELD_OUT = ("held-out scans", "the percentiles")
"""What messages call scans that percentiles are taken from, and what they are for."""

_CLASS = "SeverityModel"
_DETECTOR, _HEALTHY = "detector.", "healthy"


class SeverityModel:
    """Scores scans by their distance from the healthy manifold, and says how rare that is among healthy scans.

    The auto-encoder has seen healthy scans alone, so nothing about a disease is assumed; what the score orders is
    distance, and only grades can tell how far that is severity.

    Source: Kokilepersaud, Prabhushankar, AlRegib, Trejo Corona and Wykoff, "Gradient-Based Severity Labeling for
    Biomarker Classification in OCT", ICIP 2022.

    Args:
        detector: GradCon on an auto-encoder of healthy scans, fitted. Its `score` is what severity is made of.
        preparation: How a scan becomes inputs of the auto-encoder.
        pool: How the scores of tiles become that of their scan.

    Attributes:
        calibration: Scores of healthy scans that were not trained on, or None before calibrate.

    Raises:
        InputError: There is no such pool.
    """

    def __init__(self, detector: GradCon, preparation: Preparation, pool: Pool = "mean") -> None:
        if pool not in get_args(Pool):
            raise InputError(f"pool must be one of {', '.join(get_args(Pool))}, got {pool!r}")
        self.detector = detector
        self.preparation = preparation
        self.pool: Pool = pool
        self.calibration: Calibration | None = None

    @property
    def model(self) -> nn.Module:
        """The auto-encoder."""
        return self.detector.model

    @property
    def batch_size(self) -> int:
        """Tiles that go through the auto-encoder at once."""
        return self.detector.batch_size

    @property
    def shape(self) -> None:
        """Scans of any size and channels are prepared."""
        return None

    def calibrate(self, held_out: Any, false_alarm_rate: float = 0.05) -> Self:
        """Learn what healthy scans score that were not trained on.

        Args:
            held_out: Healthy scans, in any form that `score` takes.
            false_alarm_rate: Share of healthy scans that may be called unusual by `judge`.

        Returns:
            Itself.

        Raises:
            InputError: Fewer scans than the rate needs, or scans that the auto-encoder was trained on (more than 1 in
                100; a smaller share, as doubles in real collections, is a UserWarning).
        """
        check_none_fitted(self._fitted_on(held_out), *HELD_OUT)
        self.calibration = Calibration(self.score(held_out), false_alarm_rate)
        return self

    def score(self, scans: Any) -> Floats:
        """Severity scores.

        Args:
            scans: `data.Images`, or a tensor or array (N, K, H, W), uint8 or floating point in [0, 1].

        Returns:
            (N,) float64, higher = further from healthy.

        Raises:
            InputError: The scans are no images, of another size than in training, or without any contrast that the
                preparation could normalise.
        """
        return self.score_by(self.detector.score, self.statistics(scans))

    def statistics(self, scans: Any) -> Floats:
        """What the scores are made from (N, T, F): `GradCon.statistics` of each of the T tiles of each scan."""
        parts = [self.detector.statistics(tiles.flatten(0, 1)) for tiles in self._portions(scans)]
        together = np.concatenate(parts)
        return together.reshape(len(_rows(scans)), -1, together.shape[1])

    def score_by(self, score: Score, statistics: Floats) -> Floats:
        """Any of the scores (N,) of `GradCon` from the statistics (N, T, F).

        Args:
            score: `density` and `fused` need a detector that was fitted for `fused`; `subspace`, `whitened` and
                `aligned` need one that was fitted for them.
            statistics: As `statistics` gives them.
        """
        return self._pooled(self._of_tiles(score, statistics))

    def percentile(self, scores: npt.ArrayLike) -> Floats:
        """Share of healthy scans that score less, in [0, 1): one minus the conformal p-value.

        Args:
            scores: (N,), as `score` gives them.

        Raises:
            NotFittedError: Before calibrate.
        """
        return 1 - self._calibrated("percentiles").p_values(scores)

    def judge(self, scans: Any) -> Verdict:
        """Score, p-value among healthy scans, and the readings that are most out of line.

        Args:
            scans: As for score.

        Returns:
            The verdict, without predictions. The profile of a scan is that of its most severe tile.

        Raises:
            InputError: As for score.
            NotFittedError: Before calibrate.
        """
        calibration = self._calibrated("verdicts")
        statistics = self.statistics(scans)
        each = self._of_tiles(self.detector.score, statistics)
        scores = self._pooled(each)
        worst = statistics[np.arange(len(each)), each.argmax(1)]
        profile = self.detector.profile_of(worst)
        return Verdict(
            predictions=None,
            confidences=None,
            scores=scores,
            p_values=calibration.p_values(scores),
            trustworthy=~calibration.flagged(scores),
            false_alarm_rate=calibration.false_alarm_rate,
            profile=profile.z,
            names=profile.names,
        )

    def maps(self, scans: Any) -> Maps:
        """Where scans are far from healthy, at the size that the auto-encoder sees.

        Args:
            scans: As for score.

        Returns:
            The maps of `anomaly.maps_of`, tiles put together again; where they overlap, their mean.
        """
        height, width = self.seen(scans)
        found: list[list[Floats]] = [[], [], []]
        for tiles in self._portions(scans):
            maps = maps_of(self.detector, tiles.flatten(0, 1).numpy())
            for part, one in zip(found, (maps.reconstruction, maps.alignment, maps.energy), strict=True):
                part.append(self.preparation.whole(one.reshape(*tiles.shape[:2], *one.shape[1:]), height, width))
        return Maps(*(np.concatenate(part) for part in found))

    def seen(self, scans: Any) -> tuple[int, int]:
        """Height and width of scans as the auto-encoder sees them, before they are cut into tiles."""
        pixels = _rows(scans)
        return self.preparation.size or (pixels.shape[-2], pixels.shape[-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file: auto-encoder, reference gradients, preparation, scores of healthy scans.

        Raises:
            ArtefactError: The file cannot be written.
            NotFittedError: Before calibrate.
        """
        calibration = self._calibrated("files")
        header, arrays = self.detector.contents()
        storage.write(
            path,
            {
                "class": _CLASS,
                "detector": header,
                "preparation": asdict(self.preparation),
                "pool": self.pool,
                "false_alarm_rate": calibration.false_alarm_rate,
            },
            {f"{_DETECTOR}{name}": array for name, array in arrays.items()} | {_HEALTHY: calibration.scores},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module | None = None) -> SeverityModel:
        """Read a model back; it gives the same scores to the last bit.

        Args:
            path: A file that save wrote.
            model: The auto-encoder, when it is one of yours, which the file does not hold.

        Raises:
            ArtefactError: The file is unusable, or holds something else.
        """
        artefact = storage.read(path)
        if artefact.get("class") != _CLASS:
            raise ArtefactError(f"{path} holds a {artefact.get('class')}; give a file that severity train wrote")
        arrays = {n.removeprefix(_DETECTOR): a for n, a in artefact.tensors.items() if n.startswith(_DETECTOR)}
        detector = GradCon.restored(Artefact(artefact.get("detector"), arrays), path, model)
        settings = dict(artefact.get("preparation"))
        settings["size"] = None if settings["size"] is None else tuple(settings["size"])
        found = cls(detector, Preparation(**settings), artefact.get("pool"))
        found.calibration = Calibration(artefact.floats(_HEALTHY), artefact.get("false_alarm_rate"))
        return found

    def _of_tiles(self, score: Score, statistics: Floats) -> Floats:
        """The scores (N, T) of all tiles from their statistics (N, T, F)."""
        count, tiles, width = statistics.shape
        return self.detector.score_by(score, statistics.reshape(-1, width)).reshape(count, tiles)

    def _pooled(self, each: Floats) -> Floats:
        """The scores (N,) of scans from those of their tiles (N, T)."""
        scores: Floats = each.mean(1) if self.pool == "mean" else each.max(1)
        return scores

    def _portions(self, scans: Any) -> Iterator[Tensor]:
        """Prepared scans (n, T, K, h, w), so many at a time that their tiles are about one batch."""
        pixels = _rows(scans)
        names = getattr(scans, "names", None) or numbered(len(pixels))
        tiles = len(self.preparation.places(*self.seen(scans)))
        step = max(1, self.batch_size // tiles)
        for first, part in zip(range(0, len(pixels), step), pixels.split(step), strict=True):
            yield self.preparation.apply(part, names[first : first + step])

    def _fitted_on(self, scans: Any) -> npt.NDArray[np.bool_]:
        """Whether each scan is one of those of the fit: all its tiles are. A dark corner may be that of many scans."""
        parts = [
            self.detector.fitted_on(tiles.flatten(0, 1).numpy()).reshape(len(tiles), -1).all(1)
            for tiles in self._portions(scans)
        ]
        return np.concatenate(parts)

    def _calibrated(self, what: str) -> Calibration:
        if self.calibration is None:
            raise NotFittedError(f"{what} need the scores of healthy scans; call calibrate(held_out) first")
        return self.calibration


def _rows(scans: Any) -> Tensor:
    """The pixels of scans, whatever they come in."""
    pixels = pixels_of(scans)
    if pixels.ndim != 4 or not len(pixels):
        raise InputError(f"scans must be (N, channels, height, width), N of one or more, got {tuple(pixels.shape)}")
    return pixels
