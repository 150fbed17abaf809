"""Abnormal condition: signs as the network knows them against the same signs under a corruption, level by level."""

from __future__ import annotations

import numpy as np
import torch

from gradiometer import data
from gradiometer.benchmarks.gradcon.cases import resized
from gradiometer.benchmarks.gradcon.scoring import Scorer, scores_of
from gradiometer.benchmarks.gradcon.settings import GradConBench
from gradiometer.challenges import CORRUPTIONS, PURVIEW_EIGHT, Corruption, corrupt
from gradiometer.challenges.corruptions.recipe import CURE_TSR
from gradiometer.data import Images

NAMES = ("gaussian_noise", "gaussian_blur", *(names[CURE_TSR] for names in PURVIEW_EIGHT.values()))
"""The corruptions: the eight of the lecture's figure in the manner of CURE-TSR, and two of CIFAR-10-C beside them."""

LEVELS = (1, 2, 3, 4, 5)
_VALIDATION = 0.1
_TESTED = 1000
"""Test signs; every corruption and level is scored on all of them."""


def run(bench: GradConBench) -> None:
    """Train on clean signs of all kinds, and tell corrupted ones from them.

    Frames of one track are nearly alike, so training and validation images share no track where the data set says
    which track a frame belongs to.

    Args:
        bench: Settings and records.
    """
    settings = bench.settings
    known = data.load(settings.signs, root=settings.data_root, split="train", limit=settings.limit)
    test = data.load(
        settings.signs, root=settings.data_root, split="test", limit=min(settings.limit or _TESTED, _TESTED)
    )
    grey = test.images.shape[1] == 1
    kinds = [(name, level) for name in NAMES if not (grey and CORRUPTIONS[name].colour) for level in LEVELS]
    for seed in settings.seeds:
        parts = data.split(known, {"train": 1 - _VALIDATION, "validation": _VALIDATION}, seed, stratify=False)
        train, validation = (resized(parts[name].images) for name in ("train", "validation"))
        for model in settings.models:
            missing = {
                kind: bench.missing(settings.signs, f"{kind[0]}.{kind[1]}", model, scores_of(model), seed)
                for kind in kinds
            }
            wanted = sorted({name for names in missing.values() for name in names})
            if not wanted:
                continue
            found = bench.network(model, seed, train, validation)
            scorer = Scorer.of(found, model, _shuffled(train, seed), settings.fit_images, wanted)
            clean = resized(test.images)
            normal = scorer.scores(clean)
            for number, (name, level) in enumerate(kinds):
                bench.say(f"{model} on corrupted signs", number, len(kinds))
                if not missing[name, level]:
                    continue
                # Corrupted at the size that the network sees, so that no resizing takes the corruption away.
                changed = corrupt(Images.of(clean), Corruption(name, level), seed=seed).images
                names = settings.signs, f"{name}.{level}"
                scorer.write(bench, names, missing[name, level], normal, scorer.scores(changed))
            bench.say(f"{model} on corrupted signs", len(kinds), len(kinds))


def _shuffled(images: torch.Tensor, seed: int) -> torch.Tensor:
    """The images in random order: those of the source may be sorted by kind of sign."""
    return images[torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))]
