"""Real handwritten digits, and a small network that was trained on some of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from tests.detectors.networks import digits_network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One thread for the tests of this folder: their networks are so small that more would wait for each other.

    pytest calls this hook for the tests of every folder.
    """
    if Path(__file__).parent not in item.path.parents:
        return (yield)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return (yield)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Digits:
    """Shuffled, so that any two parts are exchangeable: images (N, 1, 8, 8) in [0, 1] and labels (N,)."""

    fit: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def digits() -> Digits:
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.images))
    # Whole grey levels, so that the same digits can also be given as bytes.
    images = torch.from_numpy(bunch.images[order] * 15).to(torch.uint8).unsqueeze(1).float().div(255)
    labels = torch.from_numpy(bunch.target[order]).long()
    parts = (slice(0, 900), slice(900, 1300), slice(1300, None))
    return Digits(*((images[part], labels[part]) for part in parts))


@pytest.fixture(scope="session")
def model(digits: Digits) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = digits_network()
    images, labels = digits.fit
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(6):
        for index in torch.randperm(len(images), generator=generator).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[index]), labels[index]).backward()
            optimiser.step()
    network.zero_grad()
    return network.eval()


@pytest.fixture
def noisy(digits: Digits) -> Tensor:
    """The test digits with Gaussian noise: a challenge."""
    images, _ = digits.test
    return (images + 0.4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
