"""A model with the weights of the fit and another function is noticed, and one that rounds differently is not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer.detectors import MSP, Guard, Purview, load, storage
from gradiometer.detectors.witness import made_up, witness_of
from gradiometer.errors import ArtefactError, ModelError


@pytest.fixture(scope="module")
def saved(model, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for kind in (MSP, Guard):
        kind(model).fit(digits.fit).calibrate(digits.held_out).save(folder / kind.__name__)
    return folder


def smooth(model):
    return nn.Sequential(*(nn.GELU() if isinstance(part, nn.ReLU) else part for part in model))


def shorter(model):
    return nn.Sequential(*(nn.Identity() if position == 9 else part for position, part in enumerate(model)))


@pytest.mark.parametrize("change", [smooth, shorter])
@pytest.mark.parametrize("kind", [MSP, Guard])
def test_another_function_of_the_same_weights_is_refused(kind, change, saved, model):
    other = change(model).eval()
    assert other.state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ArtefactError, match=r"gives other outputs.*build it as it was"):
        load(saved / kind.__name__, other)


class Divided(nn.Module):
    """A normalisation as many write it: its numbers are no weights."""

    def __init__(self, spread):
        super().__init__()
        self.spread = spread

    def forward(self, x):
        return (x - 0.5) / self.spread


def test_another_normalisation_is_refused(digits, tmp_path):
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(64, 10))
    MSP(nn.Sequential(Divided(0.5), *layers).eval()).fit(digits.fit).save(tmp_path / "detector")
    load(tmp_path / "detector", nn.Sequential(Divided(0.5), *layers).eval())
    with pytest.raises(ArtefactError, match="gives other outputs"):
        load(tmp_path / "detector", nn.Sequential(Divided(0.25), *layers).eval())


@pytest.mark.parametrize("kind", [MSP, Guard])
def test_other_rounding_is_no_other_model(kind, saved, model):
    class Rounded(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * 1.004

    load(saved / kind.__name__, Rounded(*copy.deepcopy(model)).eval())


def test_files_without_a_witness_can_be_read(saved, model, digits, tmp_path):
    artefact = storage.read(saved / "MSP")
    assert artefact.array("witness").shape == (2, 10)
    header = {key: value for key, value in artefact.header.items() if key not in ("schema", "tensors")}
    tensors = {key: value for key, value in artefact.tensors.items() if key != "witness"}
    storage.write(tmp_path / "older", header, tensors)
    again = load(tmp_path / "older", model)
    assert torch.equal(again.predict(digits.test[0]), load(saved / "MSP", model).predict(digits.test[0]))


def test_a_model_in_train_mode_can_be_given_and_is_looked_at_later(saved, model, digits):
    other = copy.deepcopy(model).train()
    detector = load(saved / "MSP", other)
    other.eval()
    assert torch.equal(detector.predict(digits.test[0]), load(saved / "MSP", model).predict(digits.test[0]))
    other = smooth(copy.deepcopy(model)).train()
    detector = load(saved / "MSP", other)
    other.eval()
    with pytest.raises(ArtefactError, match="gives other outputs"):
        detector.predict(digits.test[0])


def test_low_precision_around_it_does_not_make_another_model(saved, model):
    with torch.autocast("cpu", torch.bfloat16):
        found = witness_of(model, {"input": [1, 8, 8]})
        load(saved / "MSP", model)
    np.testing.assert_array_equal(found, storage.read(saved / "MSP").array("witness"))


def test_a_model_or_an_objective_that_noise_breaks_has_none(model, digits, tmp_path):
    class Particular(nn.Sequential):
        def forward(self, x):
            if x.mean() > 0.4:
                raise OSError("an image as none was before")
            return super().forward(x)

    torch.manual_seed(0)
    network = Particular(nn.Flatten(), nn.Linear(64, 10)).eval()
    MSP(network).fit(digits.fit).save(tmp_path / "detector")
    assert "witness" not in storage.read(tmp_path / "detector").tensors

    def objective(outputs, inputs):
        return outputs.sum(1) / (inputs.mean((1, 2, 3)) < 0.4)

    Purview(model, objective).fit(digits.fit)


def test_a_model_that_fails_when_it_is_loaded_says_why(saved, model):
    class Broken(nn.Sequential):
        def forward(self, x):
            raise RuntimeError("custom operation is not compiled")

    with pytest.raises(ModelError, match="custom operation is not compiled"):
        load(saved / "MSP", Broken(*copy.deepcopy(model)).eval())


def test_a_model_that_is_a_little_random_has_none():
    class Noisy(nn.Sequential):
        def forward(self, x):
            logits = super().forward(x)
            return logits + 0.02 * logits.abs().max() * torch.randn_like(logits)

    torch.manual_seed(0)
    network = Noisy(nn.Flatten(), nn.Linear(64, 10)).eval()
    assert all(witness_of(network, {"input": [1, 8, 8]}) is None for _ in range(20))


def test_a_model_whose_outputs_are_random_has_none(digits, tmp_path):
    class Noisy(nn.Sequential):
        def forward(self, x):
            logits = super().forward(x)
            return logits + torch.randn_like(logits)

    torch.manual_seed(0)
    network = Noisy(nn.Flatten(), nn.Linear(64, 10)).eval()
    MSP(network).fit(digits.fit).save(tmp_path / "detector")
    assert "witness" not in storage.read(tmp_path / "detector").tensors
    load(tmp_path / "detector", network)


def test_a_batch_of_one_has_the_same_witness(saved, model, digits, tmp_path):
    MSP(model, batch_size=1).fit((digits.fit[0][:50], digits.fit[1][:50])).save(tmp_path / "detector")
    found, other = (storage.read(path).array("witness") for path in (tmp_path / "detector", saved / "MSP"))
    np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-5)


def test_inputs_that_nobody_can_make_up_have_none():
    assert made_up({"input": [1, 8, 8]}).shape == (2, 1, 8, 8)
    assert torch.equal(made_up({"input": [5]}), made_up({"input": [5]}))
    assert made_up({}) is None
    assert made_up({"input 0": [3], "input 1": [4]}) is None
