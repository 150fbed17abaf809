"""Maps add up to the score they are maps of, and point at what was put into the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradiometer.anomaly import GradCon, Scale, Spots, make_network, maps_of, mean_gradient
from gradiometer.errors import InputError, ModelError, NotFittedError
from tests.anomaly.test_detector import a_detector, images


@pytest.mark.parametrize(("kind", "channels", "size"), [("cae", 1, 12), ("cae", 3, 28), ("vae", 1, 9)])
def test_maps_add_up_to_the_score(kind: str, channels: int, size: int) -> None:
    detector = a_detector(kind, channels, size, batch_size=4).fit(images(20, channels, size))
    x = images(6, channels, size, seed=1)
    found = maps_of(detector, x)
    statistics = detector._measure(x).statistics
    assert found.reconstruction.shape == found.alignment.shape == found.energy.shape == (6, size, size)
    columns = statistics[:, -8:-4], statistics[:, -4:]
    np.testing.assert_allclose(found.reconstruction.mean((1, 2)), statistics[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.alignment.sum((1, 2)), columns[0].mean(1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.energy.sum((1, 2)), (columns[1] / detector.typical()).mean(1), rtol=1e-4)
    np.testing.assert_allclose(found.combined(0.12).mean((1, 2)), detector.predict(x).numpy(), rtol=1e-4, atol=1e-6)


def test_the_maps_of_a_batch_are_those_of_its_images() -> None:
    detector = a_detector().fit(images(20))
    x = images(5, seed=1)
    together = maps_of(detector, x)
    for row in range(5):
        alone = maps_of(detector, x[row : row + 1])
        np.testing.assert_allclose(alone.alignment[0], together.alignment[row], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(alone.energy[0], together.energy[row], rtol=1e-4, atol=1e-8)


def test_a_bright_spot_is_where_it_is() -> None:
    detector = a_detector(size=28).fit(0.5 + images(20, size=28) / 100)
    x = torch.full((1, 1, 28, 28), 0.5)
    x[..., 4:8, 18:22] = 1.0
    found = maps_of(detector, x)
    for heat in (found.reconstruction, found.energy):
        row, column = np.unravel_index(heat[0].argmax(), heat[0].shape)
        assert 2 <= row <= 10
        assert 16 <= column <= 24


def test_frozen_weights_are_no_obstacle_and_stay_as_they_are() -> None:
    detector = a_detector().fit(images(20))
    expected = maps_of(detector, images(3, seed=1))
    detector.model.requires_grad_(False)
    with torch.no_grad():
        found = maps_of(detector, images(3, seed=1))
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-5)
    assert all(parameter.grad is None for parameter in detector.model.parameters())
    assert all(not module._forward_hooks for module in detector.model.modules())


def test_one_scale_serves_all_images() -> None:
    known = np.random.default_rng(0).normal(size=(10, 8, 8))
    scale = Scale.fit(known)
    levels = scale.level(known)
    np.testing.assert_allclose(np.sort(levels.ravel()), np.linspace(0, 1, known.size), atol=0.01)
    assert scale.level([-100.0, 100.0]).tolist() == [0.0, 1.0]
    # Brightening one image changes that image's levels, and no other's.
    changed = known.copy()
    changed[0] += 5
    assert np.array_equal(scale.level(changed)[1:], levels[1:])


def test_a_spot_is_measured_by_what_is_usual_where_it_is() -> None:
    known = np.random.default_rng(0).normal(size=(200, 4, 4))
    known[:, 0, 0] *= 10
    spots = Spots.fit(known)
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 0] = maps[1, 3, 3] = 8.0
    expected = [(maps[0, 0, 0] - known[:, 0, 0].mean()) / known[:, 0, 0].std()]
    expected += [(maps[1, 3, 3] - known[:, 3, 3].mean()) / known[:, 3, 3].std()]
    np.testing.assert_allclose(spots.score(maps), expected)
    assert Spots.fit(np.ones((3, 2, 2))).score(np.ones((1, 2, 2))).tolist() == [0.0]
    with pytest.raises(InputError, match="two or more"):
        Spots.fit(known[:1])


def test_smoothing_keeps_the_mean() -> None:
    detector = a_detector().fit(images(20))
    plain = maps_of(detector, images(2, seed=1))
    smooth = plain.smoothed(2.0)
    np.testing.assert_allclose(smooth.energy.mean((1, 2)), plain.energy.mean((1, 2)), rtol=0.05)
    assert smooth.reconstruction.std() < plain.reconstruction.std()
    assert np.array_equal(plain.smoothed(0).energy, plain.energy)


def test_what_has_no_map_is_refused() -> None:
    with pytest.raises(NotFittedError):
        maps_of(a_detector(), images(2))
    detector = a_detector().fit(images(20))
    with pytest.raises(InputError, match=r"\(1, 13, 13\)"):
        maps_of(detector, images(2, size=13))
    with pytest.raises(InputError, match="pixels"):
        maps_of(detector, images(2)).smoothed(-1)
    with pytest.raises(InputError, match="finite"):
        Scale.fit(np.empty((0, 4, 4)))
    network = make_network("cae", 1, 12, seed=0).eval()
    layers = ["decoder.0.bias", "decoder.2.weight"]
    other = GradCon(network, mean_gradient(network, images(20), layers), layers=layers).fit(images(20))
    with pytest.raises(ModelError, match=r"decoder\.0\.bias"):
        maps_of(other, images(2))
