"""How well a map finds the marked pixels: area under the curve over pixels, and per-region overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from gradiometer.benchmarks.metrics import Floats, Interval, percentile_interval
from gradiometer.errors import InputError

Masks = npt.NDArray[np.bool_]

LIMIT = 0.3
"""Largest false-positive rate of the per-region overlap."""

_THRESHOLDS = 300


@dataclass(frozen=True)
class PixelMetrics:
    """How well maps find marked pixels.

    Attributes:
        auroc: Share of pairs (unmarked, marked pixel) in which the marked one has the higher value.
        pro: Per-region overlap: the mean share of a marked region that is found, averaged over the false-positive rates
            of pixels up to 0.3 (Bergmann et al., "Uninformed Students", CVPR 2020). A small region counts as much as
            a large one.
        images: Number of images.
        regions: Number of marked regions.
    """

    auroc: Interval
    pro: Interval
    images: int
    regions: int


def pixel_metrics(maps: Floats, masks: Masks, *, seed: int = 0, draws: int = 100) -> PixelMetrics:
    """Both figures, with percentile bootstrap intervals over images.

    Args:
        maps: Values (B, H, W), higher = more abnormal.
        masks: Marked pixels (B, H, W); images without any take part as unmarked pixels.
        seed: Of the resampling.
        draws: Resamples; 0 gives intervals without width.

    Raises:
        InputError: Shapes differ, values are not finite, or no pixel or every pixel is marked.
    """
    values, marked = np.asarray(maps, dtype=np.float64), np.asarray(masks, dtype=bool)
    if values.shape != marked.shape or values.ndim != 3 or not np.isfinite(values).all():
        raise InputError(f"maps {values.shape} and masks {marked.shape} must be finite and of one shape (B, H, W)")
    if not marked.any() or marked.all():
        raise InputError("the masks mark no pixel, or every one; there is nothing to tell apart")
    counts = _Counts.of(values, marked)
    auroc = float(roc_auc_score(marked.ravel(), values.ravel()))
    pro = counts.pro(np.arange(len(values)))
    generator = np.random.default_rng(seed)
    resampled: list[tuple[float, float]] = []
    for _ in range(draws):
        rows = generator.integers(0, len(values), len(values))
        if marked[rows].any():
            resampled.append((counts.auroc(rows), counts.pro(rows)))
    drawn = np.array(resampled).reshape(-1, 2)
    return PixelMetrics(
        percentile_interval(auroc, drawn[:, 0]),
        percentile_interval(pro, drawn[:, 1]),
        len(values),
        int(sum(len(regions) for regions in counts.regions)),
    )


@dataclass(frozen=True, eq=False)
class _Counts:
    """Pixels at or above each of D descending thresholds, image by image.

    Attributes:
        unmarked: Of the unmarked pixels (B, D).
        marked: Of the marked ones (B, D).
        regions: For each image the found share of each of its regions (regions, D).
    """

    unmarked: Floats
    marked: Floats
    regions: list[Floats]

    @classmethod
    def of(cls, maps: Floats, masks: Masks) -> _Counts:
        # False-positive rates up to the limit decide, so the thresholds are quantiles of the unmarked pixels.
        rates = np.concatenate([np.linspace(0, LIMIT, _THRESHOLDS), np.linspace(LIMIT, 1, _THRESHOLDS)[1:]])
        thresholds = np.quantile(maps[~masks], 1 - rates)
        # The first point is that at which nothing is found, the second that at which nothing is found wrongly.
        steps = np.concatenate([[np.inf, np.nextafter(thresholds[0], np.inf)], thresholds, [-np.inf]])
        unmarked, marked, regions = [], [], []
        for values, mask in zip(maps, masks, strict=True):
            unmarked.append(_at_least(values[~mask], steps))
            marked.append(_at_least(values[mask], steps))
            labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
            parts = [values[labels == number + 1] for number in range(count)]
            regions.append(np.array([_at_least(part, steps) / len(part) for part in parts]).reshape(count, len(steps)))
        return cls(np.array(unmarked), np.array(marked), regions)

    def pro(self, rows: npt.NDArray[np.int64]) -> float:
        """Mean overlap up to the limit on some of the images."""
        false = self.unmarked[rows].sum(0)
        rate = false / max(false[-1], 1)
        overlap = np.concatenate([self.regions[row] for row in rows]).mean(0)
        inside = np.concatenate([rate[rate < LIMIT], [LIMIT]])
        heights = np.concatenate([overlap[rate < LIMIT], [np.interp(LIMIT, rate, overlap)]])
        return float(np.trapezoid(heights, inside) / LIMIT)

    def auroc(self, rows: npt.NDArray[np.int64]) -> float:
        """Area under the curve on some of the images, from the thresholds."""
        false, true = self.unmarked[rows].sum(0), self.marked[rows].sum(0)
        return float(np.trapezoid(true / true[-1], false / false[-1]))


def _at_least(values: Floats, steps: Floats) -> Floats:
    """How many values are at or above each descending step."""
    ordered = np.sort(values)
    found: Floats = (len(values) - np.searchsorted(ordered, steps, side="left")).astype(np.float64)
    return found
