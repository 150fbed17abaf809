"""What holds for every detector whatever its method, tried on all baselines; and the company of pytorch-ood."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import numpy as np
import pytest
import pytorch_ood.detector
import torch
from pytorch_ood.benchmark import Benchmark
from scipy import stats
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from gradiometer.benchmarks.metrics import evaluate
from gradiometer.detectors import (
    DDU,
    GAIA,
    KNN,
    LID,
    ODIN,
    DeepEnsemble,
    ExGrad,
    FeatureSqueezing,
    FromPytorchOod,
    GradNorm,
    GradPCA,
    GradTrust,
    GradUncertainty,
    Guard,
    Mahalanobis,
    MCDropout,
    ReAct,
    ViM,
    load,
)
from gradiometer.errors import ArtefactError, InputError, ModelError, NotFittedError

MAKERS = {
    "odin": ODIN,
    "mahalanobis V": Mahalanobis,
    "mahalanobis P": partial(Mahalanobis, epsilon=0.01),
    "mahalanobis FE": partial(Mahalanobis, layers=3),
    "mahalanobis P+FE": partial(Mahalanobis, layers=2, epsilon=0.01),
    "lid": partial(LID, layers=3),
    "knn": KNN,
    "vim": ViM,
    "react": ReAct,
    "squeezing": FeatureSqueezing,
    "gradnorm": GradNorm,
    "exgrad": ExGrad,
    "gradtrust": GradTrust,
    "graduncertainty": GradUncertainty,
    "gaia-z": GAIA,
    "gaia-a": partial(GAIA, form="channel-average"),
    "gaia-z control": partial(GAIA, gradients=False),
    "gaia-a control": partial(GAIA, form="channel-average", gradients=False),
    "gradpca": GradPCA,
    "mc dropout": MCDropout,
    "deep ensemble": DeepEnsemble,
    "ddu": partial(DDU, jitter=1e-3),
}
MATCHED = ("mahalanobis FE", "mahalanobis P+FE", "lid")
NO_STEP = [name for name in MAKERS if name not in ("odin", "mahalanobis P", "mahalanobis P+FE")]
each = pytest.mark.parametrize("name", list(MAKERS))


@pytest.fixture(scope="module")
def network(model):
    """The digits network with a dropout layer before its last one, which changes nothing in eval mode."""
    return nn.Sequential(*copy.deepcopy(model)[:10], nn.Dropout(0.3), copy.deepcopy(model)[10]).eval()


def make(name, network):
    if name == "deep ensemble":
        other = copy.deepcopy(network)
        with torch.no_grad():
            other[8].weight *= 1.1
        return MAKERS[name](nn.ModuleList([network, other]))
    return MAKERS[name](network)


def fitted(name, network, digits, noisy):
    challenges = {"challenges": noisy[:200]} if name in MATCHED else {}
    return make(name, network).fit((digits.fit[0][:400], digits.fit[1][:400]), **challenges)


@each
def test_a_baseline_lives_like_any_detector(name, network, digits, noisy, tmp_path):
    detector = fitted(name, network, digits, noisy).calibrate(digits.held_out, 0.1)
    images = digits.test[0][:100]
    scores = detector.predict(images)
    assert scores.dtype == torch.float64
    # One at a time and in another order the scores are the same, up to the rounding of the network's own batches;
    # a step of the input follows the sign of a gradient, which rounding can turn where it is nearly zero.
    tolerance = {"rtol": 1e-4, "atol": 1e-3 if name == "ddu" else 1e-5}
    if name not in NO_STEP:
        tolerance = {"rtol": 2e-2, "atol": 1e-4}
    alone = torch.cat([detector.predict(image[None]) for image in images[:5]])
    np.testing.assert_allclose(alone, scores[:5], **tolerance)
    np.testing.assert_allclose(detector.predict(images.flip(0)).flip(0), scores, **tolerance)
    verdict = detector.judge(images)
    assert np.array_equal(verdict.scores, scores)
    assert verdict.profile.shape == (100, len(verdict.names))
    assert isinstance(detector.info, pytorch_ood.api.DetectorInfo)
    detector.save(tmp_path / "baseline.safetensors")
    again = load(tmp_path / "baseline.safetensors", detector.model)
    assert type(again) is type(detector)
    assert again._parameters() == detector._parameters()
    assert torch.equal(again.predict(images), scores)
    assert np.array_equal(again.judge(images).p_values, verdict.p_values)
    assert np.array_equal(again.judge(images).profile, verdict.profile)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@each
def test_bad_images_and_steps_in_the_wrong_order_are_refused(name, network, digits, noisy):
    detector = make(name, network)
    if detector.requires_fit:
        for step in (detector.predict, detector.judge, detector.explain, detector.calibrate):
            with pytest.raises(NotFittedError, match=r"call fit\(known\)"):
                step(digits.test[0][:5])
    detector = fitted(name, network, digits, noisy)
    with pytest.raises(NotFittedError, match="calibrate"):
        detector.judge(digits.test[0][:5])
    broken = digits.test[0][:6].clone()
    broken[4, 0, 3, 3] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinite values in 1 row\(s\) \(4\)"):
        detector.predict(broken)
    with pytest.raises(InputError, match="no sample among the"):
        detector.predict(broken[:0])
    with pytest.raises(InputError, match="the detector was fitted on input"):
        detector.predict(torch.rand(3, 1, 12, 8))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@each
def test_it_works_where_gradients_are_off(name, mode, network, digits, noisy):
    expected = fitted(name, network, digits, noisy).predict(digits.test[0][:20])
    with mode():
        assert torch.equal(fitted(name, network, digits, noisy).predict(digits.test[0][:20]), expected)


@pytest.mark.parametrize("name", ["vim", "react", "gradnorm", "exgrad", "gradtrust", "gaia-a", "gaia-a control"])
def test_a_model_with_something_after_its_last_layer_is_refused(name, model, digits):
    network = nn.Sequential(*model, nn.Tanh()).eval()
    with pytest.raises(ModelError, match=r"not the output of the last linear layer \(10\)"):
        MAKERS[name](network).fit(digits.fit).predict(digits.test[0])


def test_layers_without_modules_are_refused():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            return nn.functional.linear(x, self.weight)

    with pytest.raises(ModelError, match="no linear or convolution module"):
        Mahalanobis(Functional().eval()).fit((torch.randn(30, 4), torch.arange(30) % 3))


class Small(Benchmark):
    """Digits, against digits that are turned and digits with noise."""

    ood_names = ("turned", "noise")

    def __init__(self, digits, noisy) -> None:
        self.digits, self.noisy = digits, noisy

    def train_set(self):
        return TensorDataset(*self.digits.fit)

    def test_sets(self, known=True, unknown=True):
        images, labels = self.digits.test
        strange = (torch.rot90(images, 1, (2, 3)), self.noisy)
        return [
            ConcatDataset([TensorDataset(images, labels), TensorDataset(x, torch.full((len(x),), -1))]) for x in strange
        ]


def test_our_detectors_run_in_the_benchmark_of_pytorch_ood(network, digits, noisy):
    benchmark = Small(digits, noisy)
    detectors = [Guard(network), Guard(network, gradients=True)]
    detectors += [make(name, network) for name in MAKERS if name not in MATCHED]
    loader = DataLoader(benchmark.train_set(), batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its metrics warn of is not ours
        for detector in detectors:
            rows = benchmark.evaluate(detector.fit(loader), loader_kwargs={"batch_size": 256})
            assert [row["Dataset"] for row in rows] == ["turned", "noise"]
            known, strange = (detector.predict(x) for x in (digits.test[0], torch.rot90(digits.test[0], 1, (2, 3))))
            area = stats.mannwhitneyu(strange, known).statistic / len(known) ** 2
            assert float(rows[0]["AUROC"]) == pytest.approx(area, abs=2e-3)
            if isinstance(detector, Guard):
                assert area > 0.95


PEERS = {
    "entropy": lambda network: pytorch_ood.detector.Entropy(network),
    "kl matching": lambda network: pytorch_ood.detector.KLMatching(network),
    "mahalanobis": lambda network: pytorch_ood.detector.Mahalanobis(network[:10]),
    "odin": lambda network: pytorch_ood.detector.ODIN(network, eps=0.01),
}


@pytest.mark.parametrize("name", list(PEERS))
def test_their_detectors_run_in_ours(name, network, digits, noisy, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = PEERS[name](network)
        if peer.requires_fit:
            peer.fit(DataLoader(TensorDataset(*digits.fit), batch_size=64))
    detector = FromPytorchOod(network, PEERS[name](network)).fit(digits.fit).calibrate(digits.held_out, 0.1)
    with torch.set_grad_enabled(name == "odin"):
        expected = peer.predict(digits.test[0]).detach().double()
    np.testing.assert_allclose(detector.predict(digits.test[0]), expected, rtol=1e-3, atol=1e-5)
    verdict = detector.judge(digits.test[0])
    assert (~verdict.trustworthy).mean() < 0.2
    known, challenging = detector.predict(digits.test[0]).numpy(), detector.predict(noisy).numpy()
    assert evaluate(known, challenging, draws=10).auroc.value > 0.5
    assert verdict.names[0].endswith("of pytorch-ood")
    with pytest.raises(ArtefactError, match="cannot be saved"):
        detector.save(tmp_path / "peer.safetensors")


def test_a_peer_whose_fit_failed_is_fitted_no_more(network, digits):
    detector = FromPytorchOod(network, PEERS["mahalanobis"](network)).fit(digits.fit).calibrate(digits.held_out, 0.1)
    with pytest.raises(InputError):
        detector.fit((digits.fit[0] * float("nan"), digits.fit[1]))
    with pytest.raises(NotFittedError):  # by then the peer may have been another one
        detector.predict(digits.test[0])


def test_only_their_detectors_are_adapted(network):
    with pytest.raises(InputError, match="the peer is a Sequential"):
        FromPytorchOod(network, network)
    with pytest.raises(InputError, match="has this life cycle already"):
        FromPytorchOod(network, KNN(network))


def test_challenges_reach_a_peer_with_negative_labels(network, digits, noisy):
    class Peer(pytorch_ood.api.Detector):
        requires_fit = True

        def fit(self, data_loader):
            self.labels = torch.cat([labels for _, labels in data_loader])
            return self

        def predict(self, x):
            return x.flatten(1).mean(1)

    peer = Peer()
    images = (x for x in digits.fit[0][:150].split(60))  # comes only once, and is read twice
    detector = FromPytorchOod(network, peer).fit(images, challenges=(noisy[:40], torch.zeros(40, dtype=torch.long)))
    assert peer.labels.tolist() == [0] * 150 + [-1] * 40
    np.testing.assert_allclose(detector.predict(noisy[:5]), noisy[:5].flatten(1).mean(1))
