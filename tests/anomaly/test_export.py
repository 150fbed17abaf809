"""From normal images to one file: who goes where, and what is noticed before the training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer import data
from gradiometer.anomaly import AnomalyRecipe, train_gradcon
from gradiometer.anomaly.export import Parts, divide
from gradiometer.data import Images
from gradiometer.errors import InputError


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def places(parts: Parts) -> dict[str, str]:
    assert parts.held_out is not None
    named = {"train": parts.train, "validation": parts.validation, "held_out": parts.held_out}
    return {name: part for part, images in named.items() for name in images.names}


def test_copies_stay_together_over_any_number_of_steps() -> None:
    pixels = noise(200)
    pixels[100:130] = pixels[:30]  # copies of one image
    groups = torch.arange(200)
    groups[130:160] = groups[100:130]  # further images of the copy's base image
    pixels[170:200] = pixels[130:160]  # and copies of these
    images = replace(Images.of(pixels), groups=groups)
    found = places(divide(images, None, None, 0.1, 0))
    assert len(found) == 200
    for first in range(30):
        assert len({found[f"image#{row}"] for row in (first, 100 + first, 130 + first, 170 + first)}) == 1
    assert Counter(found.values()) == {"train": 160, "validation": 20, "held_out": 20}


@pytest.mark.parametrize("seed", [0, 1])
def test_without_copies_images_are_divided_as_by_split(seed: int) -> None:
    images = replace(Images.of(noise(90)), groups=torch.from_numpy(np.random.default_rng(seed).integers(5, 60, 90)))
    parts = divide(images, None, None, 0.5, seed)
    expected = data.split(images, {"train": 0.8, "validation": 0.1, "held_out": 0.1}, seed, stratify=False)
    assert parts.held_out is not None
    for found, name in ((parts.train, "train"), (parts.validation, "validation"), (parts.held_out, "held_out")):
        assert found.names == expected[name].names


def test_doubles_among_the_known_images_do_not_stop_the_calibration(tmp_path: Path) -> None:
    pixels = noise(400)
    pixels[360:] = pixels[:40]
    detector = train_gradcon(Images.of(pixels), tmp_path, AnomalyRecipe(epochs=1))
    assert detector.calibration is not None
    assert len(detector.calibration) in range(38, 43)


def test_held_out_images_that_are_too_few_are_refused_before_the_training(tmp_path: Path) -> None:
    known, held_out = Images.of(noise(80)), Images.of(noise(18, 1))
    with pytest.raises(InputError, match="at least 19 held-out images, there are 18"):
        train_gradcon(known, tmp_path, held_out=held_out, recipe=AnomalyRecipe(epochs=1))
    assert not any(tmp_path.iterdir())
    parts = divide(known, None, None, 0.05, 0)
    assert parts.held_out is None
