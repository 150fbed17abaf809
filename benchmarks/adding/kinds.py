"""The images of the study, in two halves of kinds that share no known image either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from gradiometer.benchmarks.loading import Kit, TableSettings
from gradiometer.challenges import attack, attack_images, corrupt, corruption
from gradiometer.data import Images

DESIGN, CONFIRM = "design", "confirmation"

SETS = {
    DESIGN: ("tiny_imagenet", "street_chars", "mnist"),
    CONFIRM: ("scenes", "gtsrb", "fashion_mnist", "cifar100", "cifar10"),
}
"""Whole sets of each half; the known one is left out."""

ATTACKS = {
    DESIGN: ("fgsm", "pgd", "pgd 2"),
    CONFIRM: ("carlini_wagner", "least_likely", "negative", "bim 2"),
}
"""Attacks of each half, with the largest change of a pixel in grey levels where it is not the usual one."""

CORRUPTIONS = {
    DESIGN: ("gaussian_noise 1", "gaussian_noise 3", "jpeg_compression 3", "elastic_transform 3"),
    CONFIRM: ("shot_noise 1", "defocus_blur 3", "contrast 3", "pixelate 3", "fog 3"),
}
"""Corruptions of each half, with their level."""


@dataclass(frozen=True, eq=False)
class Sets:
    """All images of the study.

    Attributes:
        model: The model.
        fit: Known images that members are fitted on.
        known: For each half the known images that challenges are told from.
        challenges: For each half the challenges by name.
    """

    model: nn.Module
    fit: Images
    known: dict[str, Images]
    challenges: dict[str, dict[str, Images]]


def load(settings: TableSettings, count: int, halves: Sequence[str], said: Callable[[str], None]) -> Sets:
    """Load and make all images.

    The held-out known images are divided in four: for each half those that challenges are told from, and those from
    which its attacks and corruptions are made.

    Args:
        settings: Model and data.
        count: Images of each challenge; of known images there are twice as many on each half.
        halves: Which halves.
        said: Told what is being made.
    """
    kit = Kit.of(settings)
    order = np.random.default_rng(settings.seed).permutation(len(kit.held_out))
    known, challenges = {}, {}
    for place, half in enumerate((DESIGN, CONFIRM)):
        if half not in halves:
            continue
        rows = order[3 * count * place : 3 * count * (place + 1)]
        known[half] = kit.held_out.select(np.sort(rows[: 2 * count]))
        bases = kit.held_out.select(np.sort(rows[2 * count :]))
        made = {name: kit.load(name, None, count) for name in SETS[half] if name != settings.known}
        for name in ATTACKS[half]:
            said(f"attacking: {name}")
            made[name] = _attacked(name, kit.model, bases, settings.out / "attacked")
        for name in CORRUPTIONS[half]:
            kind, level = name.rsplit(" ", 1)
            made[name] = corrupt(bases, corruption(kind, int(level)), seed=settings.seed)
        challenges[half] = made
    return Sets(kit.model, kit.fit, known, challenges)


def _attacked(name: str, model: nn.Module, images: Images, cache: Path) -> Images:
    kind, _, levels = name.partition(" ")
    given = {"epsilon": int(levels) / 255, "step": int(levels) / 4 / 255} if levels else {}
    if kind == "carlini_wagner":
        # Confident, as in the table of attacks, since storing in eight bits takes smaller changes back; and short.
        given = {"confidence": 2.0, "searches": 2, "steps": 40, "constant": 1.0, "rate": 0.02}
    return attack_images(attack(kind, **given), model, images, batch_size=100, cache=cache)
