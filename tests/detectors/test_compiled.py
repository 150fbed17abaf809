"""A compiled model is read like the module that it was made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradiometer import detectors
from gradiometer.gradients import Gradiometer

LABELS = np.arange(120) % 3


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "make",
    [
        detectors.Guard, detectors.Purview, detectors.KNN, detectors.NormalizedMahalanobis, detectors.Mahalanobis,
        detectors.ReAct, detectors.ViM, detectors.DDU, detectors.GradNorm, detectors.MCDropout,
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_place", [False, True])
def test_scores_are_those_of_the_plain_model(model: nn.Module, images: Tensor, make: Any, in_place: bool) -> None:
    expected = make(model).fit((images, LABELS)).predict(images[:5])
    if in_place:
        model.compile(backend="eager")
    compiled: Any = model if in_place else torch.compile(model, backend="eager")
    compiled(images)  # compiled code is there from now on
    found = make(compiled).fit((images, LABELS)).predict(images[:5])
    assert len(found.unique()) > 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_names_of_parameters_are_those_of_the_plain_model(model: nn.Module, images: Tensor) -> None:
    compiled: Any = torch.compile(model, backend="eager")
    meter = Gradiometer(compiled, parameters="6.*")
    assert meter.parameters == ("6.weight", "6.bias") == meter.squared_norms(images[:2]).parameters
    reference = dict(model.named_parameters())
    assert Gradiometer(compiled).inner_products(images[:2], reference).values.shape == (2, 6)


def test_a_file_serves_both(model: nn.Module, images: Tensor, tmp_path: Any) -> None:
    detectors.KNN(model).fit(images).save(tmp_path / "knn.safetensors")
    loaded = detectors.load(tmp_path / "knn.safetensors", torch.compile(model, backend="eager"))
    torch.testing.assert_close(loaded.predict(images[:3]), detectors.KNN(model).fit(images).predict(images[:3]))


@pytest.mark.parametrize("make", [detectors.MCDropout, detectors.NormalizedMahalanobis])
def test_threads_that_share_a_model_do_not_meet(model: nn.Module, images: Tensor, make: Any) -> None:
    detector = make(model).fit((images, LABELS))
    expected = torch.cat([detector.predict(image) for image in images[:8].split(1)])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detector.predict, images[:8].split(1) * 4))
    torch.testing.assert_close(torch.cat(found), expected.repeat(4))
