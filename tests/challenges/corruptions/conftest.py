"""Images to corrupt: noise, where every pixel counts, and photographs, where distances mean something."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradiometer.challenges import photographs
from gradiometer.data import to_unit


@pytest.fixture(scope="session")
def images() -> Tensor:
    """Six colour images of random pixels, higher than wide."""
    return to_unit(torch.randint(0, 256, (6, 3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(5)))


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """Crops of photographs of the size for which the constants were made."""
    return to_unit(photographs(32, 42, seed=1).images)
