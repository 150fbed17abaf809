"""A small table that is filled once and looked at by many tests, and records made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer import data, models
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.evidence import Reader
from gradiometer.benchmarks.outcome import Scores
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import Challenge
from gradiometer.data import Images
from tests.benchmarks.making import make_record


@dataclass(frozen=True)
class Filled:
    """A comparison with its results."""

    comparison: Comparison
    fit: Images
    held_out: Images
    challenge: Challenge
    null: list[Record]
    records: list[Record]
    scores: list[Scores]


@pytest.fixture(scope="session")
def model() -> nn.Module:
    """A network that was never trained is read like any other, in no time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build("digits-cnn", classes=10, channels=1, size=8).eval()


@pytest.fixture(scope="session")
def digits() -> dict[str, Images]:
    return data.split(data.load("digits", limit=500), {"fit": 0.4, "held_out": 0.6})


@pytest.fixture(scope="session")
def filled(model: nn.Module, digits: dict[str, Images]) -> Filled:
    settings = Settings("test", "untrained", "digits", draws=100)
    comparison = Comparison(Reader(model), settings, digits["fit"], digits["held_out"])
    upside_down = Images.of(255 - digits["held_out"].images[:120], name="negative")
    challenge = Challenge("negatives", upside_down)
    null = comparison.null(lambda images: Images.of(images.images.clone()))
    records, scores = comparison.measure(challenge)
    return Filled(comparison, digits["fit"], digits["held_out"], challenge, null, records, scores)


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def two_sides() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    return generator.normal(size=300), generator.normal(loc=1.0, size=200)
