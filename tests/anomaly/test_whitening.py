"""The whitened cosine is the adaptive coherence estimator, and finds what varies where normal vectors do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer.anomaly import AutoEncoder, GradCon, make_network, mean_gradient
from gradiometer.anomaly import whitening as module
from gradiometer.anomaly.constraint import DECODER
from gradiometer.anomaly.whitening import SHRINKAGE, WhiteDirection, Whitened
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients import Gradiometer, Reconstruction

LAST = "decoder.6.weight"


@pytest.fixture
def network() -> AutoEncoder:
    return make_network("cae", 1, 8, seed=0).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def rows(count: int, size: int = 7, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, size)) * np.linspace(0.1, 2, size) + 1


def by_definition(known: np.ndarray, tested: np.ndarray) -> np.ndarray:
    units, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (known, tested))
    mean, covariance = units.mean(0), np.cov(units.T, bias=True)
    size = len(mean)
    inverse = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size))
    lengths = np.sqrt(mean @ inverse @ mean * np.einsum("bi,ij,bj->b", others, inverse, others))
    return others @ inverse @ mean / lengths


def test_it_is_the_cosine_under_the_inverse_covariance() -> None:
    known, tested = rows(50), rows(9, seed=1)
    found = WhiteDirection.of(torch.from_numpy(known)).cosines(torch.from_numpy(tested))
    np.testing.assert_allclose(found, by_definition(known, tested), atol=1e-5)
    scaled = WhiteDirection.of(torch.from_numpy(known)).cosines(torch.from_numpy(7 * tested))
    np.testing.assert_allclose(scaled, found, atol=1e-6)  # only the direction counts


def test_it_sees_a_small_change_where_normal_vectors_do_not_vary() -> None:
    generator = torch.Generator().manual_seed(0)
    known = torch.tensor([1.0, 0.0, 0.0]) + torch.randn(200, 3, generator=generator) * torch.tensor([0.01, 0.3, 0.01])
    usual, unusual = torch.tensor([[1.0, 0.3, 0.0], [1.0, 0.0, 0.3]])
    plain = torch.nn.functional.normalize(torch.stack([usual, unusual]), dim=1)[:, 0]
    torch.testing.assert_close(plain[0], plain[1])
    first, second = WhiteDirection.of(known).cosines(torch.stack([usual, unusual]))
    assert first > 0.99
    assert second < 0.9


def test_vectors_without_length_and_without_variation() -> None:
    white = WhiteDirection.of(torch.tensor([[3.0, 4.0]] * 5))
    torch.testing.assert_close(
        white.cosines(torch.tensor([[6.0, 8.0], [0.0, 0.0], [-4.0, 3.0]])),
        torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),
        atol=1e-6,
        rtol=0,
    )
    with pytest.raises(InputError, match="no known image has a gradient"):
        WhiteDirection.of(torch.zeros(5, 2))


def test_a_detector_scores_by_it_and_keeps_it(network: AutoEncoder, tmp_path: Path) -> None:
    known, others = images(30), images(6, 1)
    detector = GradCon(network, mean_gradient(network, known), score="whitened")
    with pytest.raises(NotFittedError, match="score='whitened'"):
        detector.score_by("whitened", np.zeros((1, 10)))
    detector.fit(batch for batch in known.split(7))  # a source that can be read once
    gradients = [
        Gradiometer(network, Reconstruction(), DECODER).gradients(x)[LAST].flatten(1).double().numpy()
        for x in (known, others)
    ]
    np.testing.assert_allclose(detector.predict(others), -by_definition(*gradients), atol=1e-4)
    for name in ("reconstruction", "gradient", "combined"):
        plain = detector.again(score=name).fit(known)
        torch.testing.assert_close(
            torch.from_numpy(detector.score_by(name, detector.statistics(others))), plain.predict(others)
        )
    with pytest.raises(NotFittedError, match="score='subspace'"):
        detector.score_by("subspace", detector.statistics(others))
    profile = detector.profile_of(detector.statistics(others))
    assert f"whitened cosine of {LAST}" in profile.names
    assert np.isfinite(profile.z).all()
    detector.save(tmp_path / "d.safetensors")
    again = GradCon.load(tmp_path / "d.safetensors")
    assert again.predict(others).numpy().tobytes() == detector.predict(others).numpy().tobytes()
    assert again.typical().tobytes() == detector.typical().tobytes()


def test_it_reads_the_smallest_parameter_and_says_when_that_is_too_large(
    network: AutoEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Whitened(network, DECODER).name == LAST
    assert Whitened(network, ("encoder.0.weight", LAST)).name == LAST  # equally small: the last
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(InputError, match=f"'{LAST}', has 512 entries"):
        GradCon(network, mean_gradient(network, images(5)), score="whitened").fit(images(20))


def test_the_cosines_of_images_and_errors_are_added_in_standard_deviations(
    network: AutoEncoder, tmp_path: Path
) -> None:
    known, others = images(30), images(6, 1)
    gradients = [Gradiometer(network, Reconstruction(), DECODER).gradients(x)[LAST] for x in (known, others)]
    with torch.no_grad():
        errors = [network(x) - x for x in (known, others)]
    expected = np.zeros(len(others))
    for first, second in (gradients, (known - 0.5, others - 0.5), errors):
        learnt, tested = (x.flatten(1).double().numpy() for x in (first, second))
        expected -= by_definition(learnt, tested) / by_definition(learnt, learnt).std()
    detector = GradCon(network, mean_gradient(network, known), score="aligned").fit(known)
    np.testing.assert_allclose(detector.predict(others), expected, rtol=1e-3)
    detector.save(tmp_path / "d.safetensors")
    again = GradCon.load(tmp_path / "d.safetensors")
    assert again.predict(others).numpy().tobytes() == detector.predict(others).numpy().tobytes()


def test_images_are_looked_at_no_larger_than_needed() -> None:
    network = make_network("cae", 3, 28, seed=0).eval()
    x = torch.rand(40, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    control = Whitened(network, DECODER, ("image",)).fit(x, 16)
    halved = WhiteDirection.of(torch.nn.functional.avg_pool2d(x - 0.5, 2).flatten(1))
    torch.testing.assert_close(
        control.measure(x)[:, 0],
        halved.cosines(torch.nn.functional.avg_pool2d(x - 0.5, 2).flatten(1)),
        atol=1e-5,
        rtol=0,
    )
    assert control.columns == ("whitened cosine of the image",)
