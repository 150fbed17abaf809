"""The main directions of gradients are those of a singular value decomposition, and what lies outside is the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradiometer.anomaly import AutoEncoder, GradCon, main_directions, make_network, mean_gradient
from gradiometer.anomaly import directions as module
from gradiometer.anomaly.constraint import DECODER
from gradiometer.anomaly.directions import outside
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients import Gradiometer, Reconstruction


@pytest.fixture
def network() -> AutoEncoder:
    return make_network("cae", 1, 8, seed=0).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def units(network: AutoEncoder, x: torch.Tensor) -> dict[str, torch.Tensor]:
    gradients = Gradiometer(network, Reconstruction(), DECODER).gradients(x)
    return {name: torch.nn.functional.normalize(value.flatten(1).double(), dim=1) for name, value in gradients.items()}


def test_they_are_the_leading_singular_vectors(network: AutoEncoder) -> None:
    known = images(12)
    found = main_directions(network, known, DECODER, 3, batch_size=5)
    for name, rows in units(network, known).items():
        vectors = torch.linalg.svd(rows, full_matrices=False).Vh[:3]
        basis = found[name].double()
        torch.testing.assert_close(basis @ basis.mT, torch.eye(3).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close((vectors @ basis.mT).square().sum(1), torch.ones(3).double(), atol=1e-3, rtol=0)


def test_what_lies_outside_is_what_a_projection_leaves(network: AutoEncoder) -> None:
    known, others = images(6), images(4, 1)
    basis = main_directions(network, known, DECODER, 4)
    shares = outside(Gradiometer(network, Reconstruction(), DECODER).gradients(others), basis)
    for column, (name, rows) in enumerate(units(network, others).items()):
        rest = rows - (rows @ basis[name].double().mT) @ basis[name].double()
        torch.testing.assert_close(shares[:, column], rest.square().sum(1), atol=1e-5, rtol=0)
    assert outside({"w": torch.zeros(1, 2, 2)}, {"w": torch.eye(4)}).tolist() == [[1.0]]


def test_known_images_lie_within_as_many_directions_as_there_are(network: AutoEncoder) -> None:
    known = images(6)
    basis = main_directions(network, known, DECODER, 50)
    assert {len(rows) for rows in basis.values()} == {6}
    shares = outside(Gradiometer(network, Reconstruction(), DECODER).gradients(known), basis)
    assert shares.max() < 1e-4


def test_not_more_images_are_used_than_allowed(network: AutoEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    assert {len(rows) for rows in main_directions(network, images(40), DECODER, 50, batch_size=7).values()} == {5}


def test_a_detector_scores_by_them_and_keeps_them(network: AutoEncoder, tmp_path: Path) -> None:
    known, others = images(20), images(5, 1)
    detector = GradCon(network, mean_gradient(network, known), score="subspace", directions=4)
    with pytest.raises(NotFittedError, match="call fit first"):
        detector.score_by("subspace", torch.zeros(1, 9).numpy())
    detector.fit(batch for batch in known.split(6))  # a source that can be read once
    basis = main_directions(network, known, DECODER, 4)
    shares = outside(Gradiometer(network, Reconstruction(), DECODER).gradients(others), basis)
    torch.testing.assert_close(detector.predict(others), shares.mean(1), atol=1e-6, rtol=0)
    for name in ("reconstruction", "gradient", "combined"):
        plain = detector.again(score=name).fit(known)
        torch.testing.assert_close(
            torch.from_numpy(detector.score_by(name, detector.statistics(others))), plain.predict(others)
        )
    detector.save(tmp_path / "d.safetensors")
    again = GradCon.load(tmp_path / "d.safetensors")
    assert again.predict(others).numpy().tobytes() == detector.predict(others).numpy().tobytes()
    assert again.typical().tobytes() == detector.typical().tobytes()
    with pytest.raises(InputError, match="directions is 0"):
        GradCon(network, directions=0)
