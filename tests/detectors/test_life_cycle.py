"""The order of the steps, the forms of the inputs, bad input, and the company of pytorch-ood."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_ood.api
import torch
from pytorch_ood.benchmark import Benchmark
from scipy import stats
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from gradiometer.detectors import (
    MSP,
    Control,
    Detector,
    Energy,
    Guard,
    Mahalanobis,
    Measurement,
    NormalizedMahalanobis,
    Purview,
    Verdict,
    base,
    load,
    register,
    registered,
)
from gradiometer.errors import InputError, ModelError, NotFittedError
from gradiometer.gradients import PseudoLabel
from gradiometer.models import weights_hash

ALL = [MSP, Energy, NormalizedMahalanobis, Control, Purview, Guard]
LEARNING = [NormalizedMahalanobis, Control, Purview, Guard]
each = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


@each
def test_the_verdict_is_made_of_the_model_and_the_scores(kind, model, digits, noisy):
    detector = kind(model).fit(digits.fit).calibrate(digits.held_out, false_alarm_rate=0.1)
    images = torch.cat([digits.test[0][:40], noisy[:40]])
    verdict = detector.judge(images)
    assert isinstance(verdict, Verdict)
    with torch.no_grad():
        probabilities = model(images).double().softmax(1)
    assert np.array_equal(verdict.predictions, probabilities.argmax(1))
    np.testing.assert_allclose(verdict.confidences, probabilities.amax(1), rtol=1e-6)
    assert np.array_equal(verdict.scores, detector.predict(images))
    held_out = detector.predict(digits.held_out[0]).numpy()
    assert verdict.p_values.tolist() == [((held_out >= s).sum() + 1) / 401 for s in verdict.scores]
    assert np.array_equal(verdict.trustworthy, verdict.p_values > 0.1)
    assert verdict.false_alarm_rate == 0.1
    assert verdict.profile.shape == (len(verdict), len(verdict.names)) == (80, len(verdict.names))
    assert np.array_equal(verdict.profile, detector.explain(images).z)


@each
def test_false_alarms_on_unseen_digits_come_at_the_chosen_rate(kind, model, digits):
    detector = kind(model).fit(digits.fit).calibrate(digits.held_out, false_alarm_rate=0.1)
    flagged = int((~detector.judge(digits.test[0]).trustworthy).sum())
    # With exchangeable images, 40 of 401 ranks are flagged: the count follows this distribution exactly.
    low, high = stats.betabinom(len(digits.test[0]), 40, 361).interval(0.999)
    assert low <= flagged <= high
    assert detector.calibration.false_alarms().images == 400


@each
def test_batches_do_not_change_scores(kind, model, digits):
    detector = kind(model).fit(digits.fit)
    images = digits.test[0][:300]
    scores = detector.predict(images)
    one_by_one = torch.cat([detector.predict(image[None]) for image in images[:10]])
    np.testing.assert_allclose(one_by_one, scores[:10], rtol=1e-4, atol=1e-6)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(detector.predict(images[order]), scores[order], rtol=1e-4, atol=1e-6)


@each
def test_every_form_of_the_same_images_gives_the_same_bits(kind, model, digits):
    (images, labels), test = digits.fit, digits.test[0][:200]
    pixels = images.mul(255).round().to(torch.uint8).numpy()
    forms = {
        "loader": DataLoader(TensorDataset(images, labels), batch_size=77),
        "generator": ((x, y) for x, y in zip(images.split(300), labels.split(300), strict=True)),
        "images": SimpleNamespace(images=pixels, labels=labels.numpy(), groups=None),
        "ignoring rows with a negative label": (
            torch.cat([torch.zeros(128, 1, 8, 8), images]),
            torch.cat([torch.full((128,), -1), labels]),
        ),
    }
    expected = kind(model).fit(digits.fit).predict(test)
    for name, form in forms.items():
        detector = kind(model).fit(form)
        assert torch.equal(detector.predict(test), expected), name
    assert torch.equal(detector.predict(DataLoader(test, batch_size=31)), expected)
    assert torch.equal(torch.cat([detector.predict(part) for part in test.split(128)]), expected)


def test_steps_in_the_wrong_order_say_which_step_is_missing(model, digits, tmp_path):
    images = digits.test[0][:5]
    for kind in LEARNING:
        detector = kind(model)
        for step in (detector.predict, detector.judge, detector.explain, detector.calibrate):
            with pytest.raises(NotFittedError, match=rf"{kind.__name__} cannot {step.__name__} yet; call fit\(known\)"):
                step(images)
        with pytest.raises(NotFittedError, match="cannot save yet"):
            detector.save(tmp_path / "detector.safetensors")
        with pytest.raises(NotFittedError, match=r"call calibrate\(held_out, false_alarm_rate\) first"):
            detector.fit(digits.fit).judge(images)
        with pytest.raises(InputError, match="needs at least 999 calibration images, there are 400"):
            detector.calibrate(digits.held_out, 0.001)
        with pytest.raises(NotFittedError, match="call calibrate"):
            detector.judge(images)
    detector = MSP(model)
    assert detector.predict(images).shape == (5,)
    for step in (detector.judge, detector.explain):
        with pytest.raises(NotFittedError, match="calibrate"):
            step(images)
    with pytest.raises(NotFittedError, match="nothing to save yet; call fit or calibrate"):
        detector.save(tmp_path / "detector.safetensors")
    assert detector.calibrate(digits.held_out).judge(images).profile.shape == (5, 1)


@pytest.mark.parametrize("rate", ["5%", None, 5])
def test_what_is_no_rate_is_refused_before_anything_is_read(rate, model, digits):
    def unread():
        yield pytest.fail("an image was read")

    with pytest.raises(InputError, match=r"false_alarm_rate is .*; give a share between 0 and 1"):
        MSP(model).fit(digits.fit).calibrate(unread(), rate)


@each
def test_labels_apart_from_their_images_are_told_where_they_go(kind, model, digits):
    with pytest.raises(InputError, match=r"with their labels as one tuple, fit\(\(images, labels\)\)"):
        kind(model).fit(*digits.fit)
    with pytest.raises(InputError, match=r"as one tuple, calibrate\(\(images, labels\)\)"):
        kind(model).fit(digits.fit).calibrate(*digits.held_out)


def test_a_detector_says_what_it_is_in_one_line(model, digits):
    detector = Guard(model, objective=PseudoLabel(), step=0.01, layers=["0", "3"], smoothing=False)
    settings = "objective=PseudoLabel, layers=['0', '3'], step=0.01, smoothing=False"
    assert repr(detector) == f"<Guard(Sequential, {settings}): not fitted, not calibrated>"
    detector.fit(digits.fit)
    assert repr(detector).endswith(": fitted on 900 images, not calibrated>")
    detector.calibrate(digits.held_out, 0.1)
    assert repr(detector).endswith(": fitted on 900 images, calibrated at 0.1>")
    assert repr(MSP(model)) == "<MSP(Sequential): not calibrated>"
    assert repr(MSP(model).calibrate(digits.held_out)) == "<MSP(Sequential): calibrated at 0.05>"


@pytest.mark.parametrize("kind", [*ALL, Mahalanobis], ids=lambda kind: kind.__name__)
def test_a_fit_that_fails_leaves_the_detector_as_it_was(kind, model, digits):
    detector = kind(model).fit(digits.fit).calibrate(digits.held_out)
    scores, words = detector.judge(digits.test[0]).scores, repr(detector)

    def interrupted():
        yield digits.test
        raise KeyboardInterrupt

    with pytest.raises(InputError, match="NaN or infinite"):
        detector.fit((digits.fit[0] / 0, digits.fit[1]))
    with pytest.raises(KeyboardInterrupt):
        detector.fit(interrupted())
    assert repr(detector) == words
    assert detector.judge(digits.test[0]).scores.tolist() == scores.tolist()


def test_a_new_fit_forgets_the_calibration(model, digits):
    detector = Purview(model).fit(digits.fit).calibrate(digits.held_out)
    with pytest.raises(NotFittedError, match="call calibrate"):
        detector.fit(digits.fit).judge(digits.test[0][:2])


def test_calibration_on_fitted_images_is_refused(model, digits):
    detector = Purview(model).fit(digits.fit)
    with pytest.raises(InputError, match=r"400 of 400 calibration images \(the first is row 0\) were also fitted on"):
        detector.calibrate(digits.fit[0][:400])
    mixed = torch.cat([digits.held_out[0], digits.fit[0][:5]])
    with pytest.raises(InputError, match=r"5 of 405 calibration images \(the first is row 400\)"):
        detector.calibrate(mixed)
    with pytest.warns(UserWarning, match="3 of 403 calibration images"):
        detector.calibrate(mixed[:403])
    assert detector.calibration is not None
    # Nothing was learnt from these, so there is nothing to warn of.
    MSP(model).calibrate(digits.held_out).calibrate(digits.held_out)
    with pytest.raises(InputError, match="were also fitted on"):
        MSP(model).fit(digits.held_out).calibrate(digits.held_out)


def test_a_detector_says_which_images_it_was_fitted_on(model, digits):
    detector = Purview(model).fit(digits.fit)
    mixed = torch.cat([digits.held_out[0][:3], digits.fit[0][:2]])
    assert detector.fitted_on(mixed).tolist() == [False, False, False, True, True]
    assert not MSP(model).fitted_on(mixed).any()


@each
def test_bad_images_are_refused_at_every_step(kind, model, digits):
    detector = kind(model).fit(digits.fit).calibrate(digits.held_out)
    broken = digits.test[0][:6].clone()
    broken[4, 0, 3, 3] = float("nan")
    for step in (detector.predict, detector.judge, detector.explain, detector.calibrate, kind(model).fit):
        with pytest.raises(InputError, match=r"NaN or infinite values in 1 row\(s\) \(4\)"):
            step(broken)
        with pytest.raises(InputError, match="no sample among the"):
            step(broken[:0])
    for step in (detector.predict, detector.judge, detector.explain, detector.calibrate):
        with pytest.raises(InputError, match=r"input \(1, 12, 8\) where the detector was fitted on input \(1, 8, 8\)"):
            step(torch.rand(50, 1, 12, 8))
        with pytest.raises(InputError, match=r"give one image alone as a batch of one, x\[None\]"):
            step(torch.rand(1, 8, 8))
        with pytest.raises(InputError, match=r"give grey images with their channel, x\[:, None\]"):
            step(torch.rand(50, 8, 8))
    with pytest.raises(InputError, match="all known images have a negative label"):
        kind(model).fit((broken[:3], torch.full((3,), -1)))


@each
def test_bad_models_are_refused(kind, model, digits):
    for part, name in ((None, "BatchNorm2d '1'"), (9, "ReLU '9'")):
        network = copy.deepcopy(model)
        detector = kind(network).fit(digits.fit)
        (network if part is None else network[part]).train()
        for step in (detector.fit, detector.predict, detector.calibrate):
            with pytest.raises(ModelError, match=rf"{name} of the model is in train mode.*call model.eval\(\)"):
                step(digits.test)
    with pytest.raises(ModelError, match=r"fails on a batch of shape \(\d+, 3, 8, 8\) \(RuntimeError.*channels="):
        kind(model).fit(torch.rand(50, 3, 8, 8))
    network = copy.deepcopy(model)
    detector = kind(network).fit(digits.fit).calibrate(digits.held_out)
    with torch.no_grad():
        network[3].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(ModelError, match="NaN or infinite"):
        detector.fit(digits.fit)
    with pytest.raises(ModelError, match="NaN or infinite"):
        detector.predict(digits.test[0])
    with pytest.raises(InputError, match="the model is a function"):
        MSP(lambda x: x)
    for size in (0, -1, "8", 2.5, None):
        with pytest.raises(InputError, match=f"batch_size is {size!r}; give a whole number"):
            MSP(model, batch_size=size)


def test_outputs_that_are_not_logits_are_refused(digits):
    images = digits.test[0][:20]
    flat = nn.Flatten()
    cases = {
        "a map": nn.Sequential(nn.Conv2d(1, 4, 3)),
        "one column": nn.Sequential(flat, nn.Linear(64, 1)),
        "integers": nn.Sequential(flat, Lambda(lambda x: x.argmax(1))),
        "rows lost": nn.Sequential(flat, Lambda(lambda x: x[:3])),
        "a dict": nn.Sequential(flat, Lambda(lambda x: {"logits": x})),
    }
    for name, network in cases.items():
        with pytest.raises(ModelError, match=r"where logits .* are needed; give output="):
            MSP(network.eval()).predict(images)
        if name in ("a map", "one column"):
            with pytest.raises(ModelError, match="logits"):
                Purview(network.eval()).fit(images)
    assert MSP(cases["a dict"].eval(), output="logits").predict(images).shape == (20,)
    with pytest.raises(ModelError, match="output='scores' is not in what the model returns, a dict"):
        MSP(cases["a dict"].eval(), output="scores").predict(images)


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_weights_that_changed_since_the_fit_are_noticed(model, digits, tmp_path):
    network = copy.deepcopy(model)
    detector = Purview(network).fit(digits.fit).calibrate(digits.held_out)
    scores, before = detector.predict(digits.test[0]), copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network[8].bias += 1e-3
    steps = (
        lambda: detector.calibrate(digits.held_out),
        lambda: detector.predict(digits.test[0]),
        lambda: detector.judge(digits.test[0]),
        lambda: detector.explain(digits.test[0]),
        lambda: detector.save(tmp_path / "detector"),
    )
    for step in steps:
        with pytest.raises(ModelError, match=r"the weights of the model, or buffers .* changed since the detector"):
            step()
    network.load_state_dict(before)
    assert torch.equal(detector.predict(digits.test[0]), scores)
    network[8].bias = nn.Parameter(network[8].bias + 1e-3)  # not written into, but replaced
    with pytest.raises(ModelError, match="weights of the model, or buffers"):
        detector.predict(digits.test[0])


class Counting(nn.Module):
    """Counts its calls in a buffer, which is saved with the weights, and replaces another one."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.last = x.mean()
        return self.model(x)


@each
def test_buffers_that_a_forward_pass_writes_into_are_left_as_found(kind, model, digits, tmp_path):
    network = Counting(copy.deepcopy(model)).eval()
    last = network.last
    detector = kind(network).fit(digits.fit).calibrate(digits.held_out)
    detector.judge(digits.test[0])
    assert network.calls == 0
    assert network.last is last
    detector.save(tmp_path / "detector")
    load(tmp_path / "detector", network).judge(digits.test[0])
    assert network.calls == 0


@each
def test_weights_are_read_again_only_when_something_wrote_into_them(kind, model, digits, monkeypatch):
    detector = kind(model).fit(digits.fit).calibrate(digits.held_out)
    read = []
    monkeypatch.setattr(base, "weights_hash", lambda given: read.append(given) or weights_hash(given))
    detector.judge(digits.test[0])
    detector.predict(digits.test[0][:1])
    assert not read


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@each
def test_it_works_where_gradients_are_off(kind, mode, model, digits):
    expected = kind(model).fit(digits.fit).predict(digits.test[0][:50])
    with mode():
        detector = kind(model).fit(digits.fit)
        assert torch.equal(detector.predict(digits.test[0][:50]), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@each
def test_images_follow_the_floating_point_type_of_the_model(kind, dtype, model, digits):
    network = copy.deepcopy(model).to(dtype)
    scores = kind(network).fit(digits.fit).predict(digits.test[0])
    single = kind(model).fit(digits.fit).predict(digits.test[0])
    assert scores.dtype == torch.float64
    assert stats.spearmanr(scores, single).statistic > (0.999 if dtype == torch.float64 else 0.9)


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


def test_detectors_run_in_a_benchmark_of_pytorch_ood(model, digits, noisy):
    benchmark = Small(digits, noisy)
    detectors = [kind(model).fit(DataLoader(benchmark.train_set(), batch_size=64)) for kind in ALL]
    assert all(isinstance(detector, pytorch_ood.api.Detector) for detector in detectors)
    assert all(isinstance(kind.info, pytorch_ood.api.DetectorInfo) for kind in ALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its metrics warn of is not ours
        rows = benchmark.evaluate(detectors, loader_kwargs={"batch_size": 256}, device="cpu")
    assert len(rows) == 2 * len(ALL)
    auroc = {(row["Detector"], row["Dataset"]): float(row["AUROC"]) for row in rows}
    assert auroc["Purview", "turned"] > 0.95
    known, strange = digits.test[0], torch.rot90(digits.test[0], 1, (2, 3))
    for detector in detectors:
        u = stats.mannwhitneyu(detector(strange), detector(known)).statistic / len(known) ** 2
        assert auroc[type(detector).__name__, "turned"] == pytest.approx(u, abs=2e-3)


def test_hyperparameters_can_be_searched_by_pytorch_ood(model, digits):
    detector = Purview(model)
    assert detector.get_hyperparameters() == {"neighbours": 10}
    detector.set_hyperparameters(neighbours=3).fit(digits.fit)
    expected = Purview(model, neighbours=3).fit(digits.fit).predict(digits.test[0])
    assert torch.equal(detector.to("cpu").predict(digits.test[0]), expected)
    assert detector.device == torch.device("cpu")


def test_models_with_several_inputs_take_dicts():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)

        def forward(self, tokens, weight):
            return self.head((self.embed(tokens) * weight[..., None]).mean(1))

    torch.manual_seed(0)
    model = Pair().eval()
    x = {"tokens": torch.randint(0, 20, (90, 5)), "weight": torch.rand(90, 5)}
    labels = torch.arange(90) % 3
    for kind in ALL:
        detector = kind(model).fit((x, labels))
        assert detector.predict({"tokens": x["tokens"][:7], "weight": x["weight"][:7]}).shape == (7,)


def test_a_detector_of_ones_own_has_the_whole_life_cycle(model, digits, tmp_path):
    @register
    class LogitNorm(Detector):
        """Minus the largest logit."""

        requires_fit = False

        def _measure(self, inputs):
            with torch.no_grad():
                logits = self.model(inputs)
            return Measurement(logits, logits.double().numpy(), ("logits",))

        def _score(self, statistics):
            return -statistics.max(1)

    assert registered()["LogitNorm"] is LogitNorm
    detector = LogitNorm(model).calibrate(digits.held_out)
    detector.save(tmp_path / "own.safetensors")
    again = load(tmp_path / "own.safetensors", model)
    assert isinstance(again, LogitNorm)
    images = digits.test[0]
    assert np.array_equal(again.judge(images).trustworthy, detector.judge(images).trustworthy)
    with pytest.raises(InputError, match="has a detector named Purview already"):
        register(type("Purview", (LogitNorm,), {"__module__": "elsewhere"}))
