"""GradCon as a detector: scores of the published loop, one file, and clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer import detectors
from gradiometer.anomaly import AutoEncoder, GradCon, VariationalAutoEncoder, make_network, maps_of, mean_gradient
from gradiometer.detectors import storage
from gradiometer.errors import ArtefactError, GradiometerError, InputError, ModelError, NotFittedError
from gradiometer.gradients import Gradiometer, Reconstruction

WEIGHTS = tuple(f"decoder.{number}.weight" for number in (0, 2, 4, 6))


def images(count: int, channels: int = 1, size: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def a_reference(network: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    named = dict(network.named_parameters())
    return {name: torch.randn(named[name].shape, generator=generator) for name in WEIGHTS}


def a_detector(kind: str = "cae", channels: int = 1, size: int = 12, **settings: Any) -> GradCon:
    network = make_network(kind, channels, size, seed=0).eval()
    return GradCon(network, a_reference(network), **settings)


def one_by_one(detector: GradCon, x: Tensor, beta: float = 0.12) -> Tensor:
    """The release's loop: a batch of one, autograd, torch's cosine similarity."""
    named = dict(detector.model.named_parameters())
    scores = []
    for image in x.split(1):
        loss = F.mse_loss(detector.model(image), image)
        gradients = torch.autograd.grad(loss, [named[name] for name in WEIGHTS])
        cosines = [
            F.cosine_similarity(gradient.reshape(1, -1), detector.reference[name].reshape(1, -1))
            for name, gradient in zip(WEIGHTS, gradients, strict=True)
        ]
        scores.append(loss.item() - beta * torch.cat(cosines).mean().item())
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize(("kind", "channels", "size"), [("cae", 1, 12), ("cae", 3, 28), ("vae", 3, 9)])
def test_scores_are_those_of_the_published_loop(kind: str, channels: int, size: int) -> None:
    detector = a_detector(kind, channels, size, batch_size=8).fit(images(20, channels, size))
    x = images(13, channels, size, seed=1)
    torch.testing.assert_close(detector.predict(x), one_by_one(detector, x), rtol=1e-5, atol=1e-7)


def test_the_parts_of_the_score_can_be_had_alone() -> None:
    x, known = images(6, seed=1), images(20)
    scores = {name: a_detector(score=name).fit(known).predict(x) for name in ("combined", "reconstruction", "gradient")}
    network = a_detector().model
    torch.testing.assert_close(scores["reconstruction"], (network(x) - x).square().mean((1, 2, 3)).double().detach())
    torch.testing.assert_close(scores["combined"], scores["reconstruction"] + 0.12 * scores["gradient"])
    other = a_detector(beta=2.0).fit(known).predict(x)
    torch.testing.assert_close(other, scores["reconstruction"] + 2 * scores["gradient"])
    vae = a_detector("vae", score="latent").fit(known)
    assert isinstance(vae.model, AutoEncoder)
    torch.testing.assert_close(vae.predict(x), vae.model.passed(x)[1].double().detach(), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="latent loss"):
        a_detector(score="latent")


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_only_the_direction_of_the_reference_counts(factor: float) -> None:
    plain = a_detector().fit(images(20))
    scaled = GradCon(plain.model, {name: factor * value for name, value in a_reference(plain.model).items()})
    scaled.fit(images(20))
    x = images(5, seed=1)
    torch.testing.assert_close(scaled.predict(x), plain.predict(x), rtol=1e-6, atol=1e-9)


def test_a_batch_is_scored_as_its_images_alone() -> None:
    detector = a_detector(score="density", neighbours=3).fit(images(30))
    x = images(9, seed=1)
    alone = torch.cat([detector.predict(image) for image in x.split(1)])
    torch.testing.assert_close(detector.predict(x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("score", ["combined", "density"])
def test_one_file_holds_everything(score: Any, tmp_path: Path) -> None:
    detector = a_detector("vae", score=score, neighbours=4).fit(images(30)).calibrate(images(30, seed=1), 0.1)
    detector.training = {"recipe": {"constraint": {"alpha": 0.03}}}
    path = tmp_path / "gradcon.safetensors"
    detector.save(path)
    torch.save(images(7, seed=2), tmp_path / "x.pt")
    code = f"""
import json, torch
from gradiometer.anomaly import GradCon
again = GradCon.load({str(path)!r})
x = torch.load({str(tmp_path / "x.pt")!r}, weights_only=True)
print(json.dumps([again.predict(x).tolist(), again.judge(x).p_values.tolist(), again.beta, again.training]))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    scores, p_values, beta, training = json.loads(ended.stdout)
    assert scores == detector.predict(images(7, seed=2)).tolist()
    assert p_values == detector.judge(images(7, seed=2)).p_values.tolist()
    assert (beta, training) == (0.12, detector.training)
    header = storage.read(path).header
    assert header["about"]["network"] == {"kind": "vae", "channels": 1, "size": [12, 12]}
    again = detectors.load(path)
    again.save(tmp_path / "again.safetensors")
    assert storage.read(tmp_path / "again.safetensors").header == header


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_precision_is_kept_in_the_file(dtype: torch.dtype, tmp_path: Path) -> None:
    network = make_network("cae", 1, 12, seed=0).eval().to(dtype)
    detector = GradCon(network, a_reference(network)).fit(images(8)).calibrate(images(30, seed=1), 0.1)
    detector.save(tmp_path / "gradcon.safetensors")
    again = detectors.load(tmp_path / "gradcon.safetensors")
    assert next(again.model.parameters()).dtype == dtype
    assert torch.equal(again.predict(images(5, seed=2)), detector.predict(images(5, seed=2)))


def test_scores_that_a_detector_does_not_have_are_refused() -> None:
    detector = a_detector().fit(images(30))
    statistics = detector.statistics(images(3))
    for name, said in (("banana", "score must be one of"), ("latent", "only a variational auto-encoder")):
        with pytest.raises(InputError, match=said):
            detector.score_by(name, statistics)  # type: ignore[arg-type]
    for name in ("fused", "density", "subspace"):
        with pytest.raises(NotFittedError, match=f"is learnt by a detector with score='{name}'"):
            detector.score_by(name, statistics)  # type: ignore[arg-type]
    fused = a_detector(score="fused", neighbours=4).fit(images(60))
    for name in ("fused", "density", "combined", "gradient", "reconstruction"):
        assert np.isfinite(fused.score_by(name, fused.statistics(images(3)))).all()  # type: ignore[arg-type]


def test_a_verdict_without_a_class() -> None:
    detector = a_detector().fit(images(30)).calibrate(images(30, seed=1), 0.1)
    verdict = detector.judge(torch.ones(2, 1, 12, 12))
    assert verdict.predictions is None
    assert verdict.confidences is None
    assert verdict.words(0).startswith(("trustworthy (p = ", "not trustworthy (p = "))
    assert verdict.names[0] == "reconstruction loss"
    assert len(verdict.names) == 1 + 2 * len(WEIGHTS) == verdict.profile.shape[1]
    assert detector.calibration is not None
    assert detector.calibration.false_alarms().classes == ()


def test_an_auto_encoder_of_the_user_needs_its_weights_beside_the_file(tmp_path: Path) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            rebuilt: Tensor = self.decoder(x.flatten(1)).view_as(x)
            return rebuilt

    torch.manual_seed(0)
    model, known = Mine().eval(), images(40, size=2)
    detector = GradCon(model, mean_gradient(model, known)).fit(known)
    detector.save(tmp_path / "mine.safetensors")
    with pytest.raises(ArtefactError, match="give it"):
        GradCon.load(tmp_path / "mine.safetensors")
    again = GradCon.load(tmp_path / "mine.safetensors", model)
    assert torch.equal(again.predict(known), detector.predict(known))
    with pytest.raises(InputError, match="matches none"):
        GradCon(nn.Linear(2, 2).eval())


def test_an_auto_encoder_of_vectors_is_scored_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6)).eval()
    x = torch.rand(60, 6)
    detector = GradCon(model, mean_gradient(model, x, "1.weight"), "reconstruction", layers="1.weight").fit(x)
    losses = (model(x) - x).square().mean(1).detach()
    torch.testing.assert_close(detector.predict(x), losses.double(), rtol=1e-5, atol=0)


def test_the_mean_gradient_is_that_of_autograd() -> None:
    network = make_network("cae", 1, 12, seed=0).eval()
    known = images(11)
    found = mean_gradient(network, known, batch_size=4)
    gradients = torch.autograd.grad(
        F.mse_loss(network(known), known), [dict(network.named_parameters())[n] for n in WEIGHTS]
    )
    for name, expected in zip(WEIGHTS, gradients, strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-8)


def test_both_statistics_of_one_pass_are_those_of_two() -> None:
    network = make_network("cae", 3, 12, seed=0).eval()
    meter, x = Gradiometer(network, Reconstruction(), WEIGHTS), images(5, 3)
    reference = a_reference(network)
    products, squares = meter.alignments(x, reference)
    apart = meter.inner_products(x, reference).values  # by another layer's worth of products, in another order
    torch.testing.assert_close(products.values, apart, rtol=1e-5, atol=1e-5 * float(apart.abs().max()))
    assert torch.equal(squares.values, meter.squared_norms(x).values)
    assert products.parameters == squares.parameters == WEIGHTS


def test_gradients_of_zeros_score_without_nan() -> None:
    network = make_network("cae", 1, 12, seed=0).eval()
    with torch.no_grad():
        network.decoder[4].bias.fill_(-100.0)  # the last ReLU is dead, and so is everything before it
    detector = GradCon(network, a_reference(network)).fit(images(20))
    x = images(4, seed=1)
    assert torch.isfinite(detector.predict(x)).all()
    torch.testing.assert_close(detector.predict(x), detector.predict(x.flip(0)).flip(0))
    statistics = detector._measure(x).statistics
    assert (statistics[:, 1:5] == 0).all()


def test_a_collapsed_code_has_a_latent_loss_that_is_not_negative() -> None:
    network = make_network("vae", 1, 12, seed=0).eval()
    assert isinstance(network, VariationalAutoEncoder)
    with torch.no_grad():
        for layer in (network.mean, network.log_variance):
            layer.weight.mul_(1e-7)
            layer.bias.fill_(0.0)
        network.log_variance.bias.fill_(1e-6)
    assert (network.passed(images(40, seed=1))[1] < 0).all()  # what float32 makes of it
    detector = GradCon(network, a_reference(network), score="fused").fit(images(60))
    latent = detector.statistics(images(40, seed=1))[:, 1]
    assert (latent >= 0).all()
    assert latent.max() < 1e-6


def test_a_reference_is_needed_and_must_fit() -> None:
    network = make_network("cae", 1, 12, seed=0).eval()
    with pytest.raises(NotFittedError, match="no reference gradient"):
        GradCon(network).fit(images(20))
    reference = a_reference(network)
    for broken, message in (
        ({name: value for name, value in reference.items() if name != WEIGHTS[1]}, "lacks 'decoder.2.weight'"),
        ({**reference, "head.weight": torch.ones(1)}, "holds 'head.weight'"),
        ({**reference, WEIGHTS[0]: torch.ones(3)}, "shape"),
        ({**reference, WEIGHTS[0]: torch.full((64, 64, 4, 4), float("nan"))}, "finite"),
        ({name: torch.zeros_like(value) for name, value in reference.items()}, "zero in every layer"),
    ):
        with pytest.raises(GradiometerError, match=message):
            GradCon(network, broken)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (images(2, channels=3), InputError, r"\(3, 12, 12\)"),
        (images(2, size=13), InputError, r"\(1, 13, 13\)"),
        (torch.full((2, 1, 12, 12), float("nan")), InputError, "NaN"),
        ({"input": images(2)}, InputError, "dict"),
    ],
)
def test_other_inputs_are_refused(x: Any, error: type[Exception], message: str) -> None:
    detector = a_detector().fit(images(20))
    with pytest.raises(error, match=message):
        detector.predict(x)


def test_challenges_settings_and_modes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="learns nothing from challenges"):
        a_detector().fit(images(20), challenges=images(20))
    with pytest.raises(InputError, match="score must be one of"):
        a_detector(score="colour")
    with pytest.raises(InputError, match="finite"):
        a_detector(beta=float("inf"))
    detector = a_detector()
    detector.model.train()
    with pytest.raises(ModelError, match="train mode"):
        detector.fit(images(20))


def test_known_images_may_carry_labels_and_negative_ones_are_left_out() -> None:
    known = images(30)
    detector = a_detector().fit((known, np.r_[np.zeros(20), -np.ones(10)].astype(np.int64)))
    expected = a_detector().fit(known[:20])
    assert np.array_equal(detector.explain(known[:3]).z, expected.explain(known[:3]).z)


@pytest.mark.parametrize("score", ["subspace", "whitened", "aligned"])
def test_no_score_learns_from_rows_with_a_negative_label(score: Any) -> None:
    known = images(60)
    settings = {"score": score, "batch_size": 16}
    labels = np.r_[np.zeros(40), -np.ones(20)].astype(np.int64)
    detector = a_detector(**settings).fit((known, labels))
    expected = a_detector(**settings).fit(known[:40])
    torch.testing.assert_close(detector.predict(known[-5:]), expected.predict(known[-5:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("score", ["subspace", "whitened", "aligned"])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no cuda device here")
def test_a_network_that_moves_after_loading_is_scored(score: Any, tmp_path: Path) -> None:
    detector = a_detector(score=score).fit(images(40))
    detector.save(tmp_path / "a.safetensors")
    moved = GradCon.load(tmp_path / "a.safetensors")
    moved.model.cuda()
    x = images(5, seed=1)
    torch.testing.assert_close(moved.predict(x), detector.predict(x), rtol=1e-3, atol=1e-4)
    assert np.isfinite(maps_of(moved, x).alignment).all()


def test_a_file_of_another_detector_still_needs_its_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3)).eval()
    detectors.MSP(model).calibrate(images(40), 0.1).save(tmp_path / "msp.safetensors")
    with pytest.raises(ArtefactError, match="a MSP file does not hold its model; give the model"):
        detectors.load(tmp_path / "msp.safetensors")
    with pytest.raises(ArtefactError, match="holds a MSP, not a GradCon"):
        GradCon.load(tmp_path / "msp.safetensors")


def test_an_altered_network_in_the_file_is_noticed(tmp_path: Path) -> None:
    detector = a_detector().fit(images(20))
    path = tmp_path / "gradcon.safetensors"
    detector.save(path)
    artefact = storage.read(path)
    tensors = dict(artefact.tensors)
    tensors["state.network.decoder.0.bias"] = tensors["state.network.decoder.0.bias"] + 1
    header = {name: value for name, value in artefact.header.items() if name not in ("tensors", "schema")}
    storage.write(path, header, tensors)
    with pytest.raises(ArtefactError, match="other weights"):
        GradCon.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="truncated"):
        GradCon.load(path)


@pytest.mark.parametrize(
    ("size", "count"), [(28, 256), (64, 256), ((65, 64), 252), (128, 64), (512, 4), ((1024, 2048), 1)]
)
def test_large_images_go_through_the_network_in_smaller_batches(size: int | tuple[int, int], count: int) -> None:
    network = make_network("cae", 1, size, seed=0).eval()
    assert GradCon(network).batch_size == count
    assert GradCon(network, batch_size=300).batch_size == 300
    assert GradCon(nn.Sequential(network), layers="*").batch_size == 256


def test_scores_of_large_images_do_not_depend_on_the_batch_and_their_size_is_kept(tmp_path: Path) -> None:
    network = make_network("cae", 1, 128, seed=0).eval()
    known = torch.rand(66, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    detector = GradCon(network, mean_gradient(network, known[:4])).fit(known)
    at_once = detector.again(batch_size=66).fit(known)
    torch.testing.assert_close(detector.predict(known), at_once.predict(known), rtol=1e-5, atol=1e-7)
    detector.save(tmp_path / "file.safetensors")
    restored = GradCon.load(tmp_path / "file.safetensors")
    assert restored.batch_size == 64
    assert torch.equal(restored.predict(known), detector.predict(known))
