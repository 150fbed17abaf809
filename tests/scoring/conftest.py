"""A calibrated detector that costs nothing, and images to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gradiometer.detectors import MSP

PORTION = 8


@pytest.fixture
def detector() -> MSP:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).eval()
    return MSP(model, batch_size=PORTION).calibrate(torch.rand(50, 1, 8, 8), 0.1)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, pixels: np.ndarray) -> Path:
    """Fifty images in two folders; numbers 3 and 4 are broken, and so is the last one."""
    path = tmp_path / "photos"
    for number, image in enumerate(pixels):
        place = path / ("a" if number < 20 else "b") / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
        if number in (3, 4, 49):
            place.write_bytes(place.read_bytes()[:60])
    (path / "notes.txt").write_text("not an image")
    return path
