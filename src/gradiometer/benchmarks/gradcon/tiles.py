"""Magnetic tiles: free of defects against five kinds of defect, by image and by pixel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradiometer import data
from gradiometer.anomaly import Maps, Spots, maps_of, pixels_hash
from gradiometer.benchmarks.gradcon import controls, measures
from gradiometer.benchmarks.gradcon.cases import resized
from gradiometer.benchmarks.gradcon.measures import Measure
from gradiometer.benchmarks.gradcon.references import Components, Neighbours, PixelMethod
from gradiometer.benchmarks.gradcon.scoring import Scorer, scores_of
from gradiometer.benchmarks.gradcon.settings import GradConBench
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.pixels import pixel_metrics
from gradiometer.errors import InputError

NAME, FREE, SPOT = "magnetic_tile", 0, "spot"
SMOOTHING = 1.5
"""Standard deviation of the filter of all maps, in pixels of a map of 64 x 64."""

_SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
_PIXEL_DRAWS = 100


@dataclass(frozen=True, eq=False)
class Tiles:
    """The images of the part.

    Attributes:
        train: Free tiles, uint8 (N, 1, S, S).
        validation: Free tiles.
        normal: Free tiles to test on.
        abnormal: Tiles of each kind of defect, by name.
        masks: Their marked pixels (M, H, W), by name, at the size of the source.
    """

    train: Tensor
    validation: Tensor
    normal: Tensor
    abnormal: dict[str, Tensor]
    masks: dict[str, npt.NDArray[np.bool_]]


def load(root: Path, size: int, seed: int, limit: int | None) -> Tiles:
    """Load and divide the tiles.

    Args:
        root: Folder with `magnetic_tile.npz`; its array `test_masks` holds the marked pixels, eight in a byte.
        size: Height and width of the images.
        seed: Of the division of the free tiles.
        limit: At most so many tiles of each kind.
    """
    tiles = data.load(NAME, root=root, split="test")
    with np.load(root / f"{NAME}.npz", allow_pickle=False) as arrays:
        if "test_masks" not in arrays.files or tiles.labels is None:
            raise InputError(f"{NAME}.npz in {root} has no test_masks or no labels, and the part tiles needs both")
        masks = np.unpackbits(arrays["test_masks"], axis=-1).astype(bool)
    labels = tiles.labels.numpy()
    free = tiles.select(np.flatnonzero(labels == FREE)[:limit])
    parts = data.split(free, _SHARES, seed, stratify=False)
    rows = {name: np.flatnonzero(labels == label)[:limit] for label, name in enumerate(tiles.classes) if label != FREE}
    return Tiles(
        **{
            role: resized(parts[part].images, size)
            for role, part in (("train", "train"), ("validation", "validation"), ("normal", "test"))
        },
        abnormal={name: resized(tiles.images[torch.from_numpy(at)], size) for name, at in rows.items()},
        masks={name: masks[at] for name, at in rows.items()},
    )


def run(bench: GradConBench) -> None:
    """Train on free tiles; score and map free and defective ones, beside the references.

    Args:
        bench: Settings and records.
    """
    settings = bench.settings
    for seed in settings.seeds:
        tiles = load(settings.data_root, settings.tile_size, seed, settings.limit)
        _references(bench, tiles, seed)
        for number, model in enumerate(settings.models):
            bench.say("networks on magnetic tiles", number, len(settings.models))
            wanted = (*scores_of(model), SPOT)
            missing = {kind: bench.missing(NAME, kind, model, wanted, seed) for kind in tiles.abnormal}
            if not any(missing.values()):
                continue
            needed = {name for names in missing.values() for name in names} - {SPOT}
            if needed <= {*controls.NAMES}:  # maps need a detector, which these are made without
                needed.add("fused")
            found = bench.network(model, seed, tiles.train, tiles.validation)
            scorer = Scorer.of(found, model, tiles.train, settings.fit_images, sorted(needed))
            normal = scorer.scores(tiles.normal)
            for kind, images in tiles.abnormal.items():
                scorer.write(bench, (NAME, kind), missing[kind], normal, scorer.scores(images))
            maps = maps_of(scorer.detector, torch.cat(list(tiles.abnormal.values())).numpy())
            known, free = (
                maps_of(scorer.detector, images.numpy()).reconstruction for images in (tiles.validation, tiles.normal)
            )
            _spots(bench, model, known, free, maps.reconstruction, tiles, seed)
            for name, heat in _heats(maps, scorer.detector.beta):
                _measure(bench, f"{model}, {name}", heat, tiles, seed)
        bench.say("networks on magnetic tiles", len(settings.models), len(settings.models))


def _spots(
    bench: GradConBench, model: str, known: Floats, normal: Floats, abnormal: Floats, tiles: Tiles, seed: int
) -> None:
    """Record the score by the most unusual position of the reconstruction error, of any method.

    Args:
        bench: Takes the records.
        model: Name of the method.
        known: Maps of the validation images, which the positions are standardised by.
        normal: Maps of the free test images.
        abnormal: Maps of all defective images, kind by kind.
        tiles: The images.
        seed: Of the training.
    """
    started = time.perf_counter()
    spots = Spots.fit(known)
    first, scores = spots.score(normal), spots.score(abnormal)
    ends = np.cumsum([len(images) for images in tiles.abnormal.values()])
    for kind, part in zip(tiles.abnormal, np.split(scores, ends[:-1]), strict=True):
        if bench.missing(NAME, kind, model, (SPOT,), seed):
            bench.record(
                known=NAME,
                challenge=kind,
                model=model,
                detector=SPOT,
                seed=seed,
                scores=(first, part),
                control=True,
                counts={"train": len(tiles.train), "validation": len(known)},
                weights="",
                data={"train": pixels_hash(tiles.train), "normal": pixels_hash(tiles.normal)},
                seconds=time.perf_counter() - started,
                notes={"size": list(tiles.train.shape[1:])},
            )


def _heats(maps: Maps, beta: float) -> Iterator[tuple[str, Floats]]:
    """The maps that are measured, by name."""
    smooth = maps.smoothed(SMOOTHING * maps.energy.shape[-1] / 64)
    yield "reconstruction", smooth.reconstruction
    yield "gradient direction", -smooth.alignment
    yield "gradient energy", smooth.energy
    yield "combined", smooth.combined(beta)


def _references(bench: GradConBench, tiles: Tiles, seed: int) -> None:
    methods: tuple[PixelMethod, ...] = (Components(), Neighbours())
    known = _unit(tiles.train)
    for method in methods:
        wanted = ("reconstruction", SPOT)
        missing = {kind: bench.missing(NAME, kind, method.name, wanted, seed) for kind in tiles.abnormal}
        if not any(missing.values()):
            continue
        method.fit(known)
        started = time.perf_counter()
        normal = method.maps(_unit(tiles.normal)).mean((1, 2))
        heats = []
        for kind, images in tiles.abnormal.items():
            heat = method.maps(_unit(images))
            heats.append(heat)
            if "reconstruction" in missing[kind]:
                bench.record(
                    known=NAME,
                    challenge=kind,
                    model=method.name,
                    detector="reconstruction",
                    seed=seed,
                    scores=(normal, heat.mean((1, 2))),
                    control=True,
                    counts={"train": len(known)},
                    weights="",
                    data={"train": pixels_hash(tiles.train), "normal": pixels_hash(tiles.normal)},
                    seconds=time.perf_counter() - started,
                    notes={"size": list(tiles.train.shape[1:])},
                )
        heat = np.concatenate(heats)
        known_maps, normal_maps = (method.maps(_unit(images)) for images in (tiles.validation, tiles.normal))
        _spots(bench, method.name, known_maps, normal_maps, heat, tiles, seed)
        smooth = Maps(heat, heat, heat).smoothed(SMOOTHING * heat.shape[-1] / 64).reconstruction
        _measure(bench, method.name, smooth, tiles, seed)


def _measure(bench: GradConBench, subject: str, heat: Floats, tiles: Tiles, seed: int) -> None:
    """Record how well maps of all defective tiles find the marked pixels."""
    masks = np.concatenate(list(tiles.masks.values()))
    draws = min(_PIXEL_DRAWS, bench.settings.draws)
    found = pixel_metrics(_enlarged(heat, masks.shape[-2:]), masks, seed=seed, draws=draws)
    notes: dict[str, Any] = {
        "epochs": bench.settings.epochs,
        "size": bench.settings.tile_size,
        "smoothing": SMOOTHING,
        "limit": bench.settings.limit,
        "images": found.images,
        "regions": found.regions,
        "draws": draws,
    }
    for figure, interval in (("pixel AUROC", found.auroc), ("PRO", found.pro)):
        measure = Measure("tiles", subject, figure, interval.value, interval.low, interval.high, "share", seed, notes)
        measures.append(bench.settings.out / "measures.jsonl", measure)


def _enlarged(heat: Floats, size: tuple[int, ...]) -> Floats:
    """Maps (B, h, w) at the size of the masks, by bilinear interpolation."""
    tensor = torch.from_numpy(heat).unsqueeze(1)
    enlarged: Floats = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear")[:, 0].numpy()
    return enlarged


def _unit(images: Tensor) -> npt.NDArray[np.float32]:
    pixels: npt.NDArray[np.float32] = data.to_unit(images).numpy()
    return pixels
