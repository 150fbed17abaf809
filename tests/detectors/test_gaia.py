"""GAIA against the definition, one image and one layer at a time, and what it refuses."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradiometer.detectors import GAIA, load
from gradiometer.errors import InputError, ModelError

FORMS = ("zero-deflation", "channel-average")
each = pytest.mark.parametrize("form", FORMS)


class Residual(nn.Module):
    """A block as of a ResNet, whose second map is added to in place, before a head of a mean over positions."""

    def __init__(self, width: int = 6, classes: int = 5, norm=nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(2, width, 3, padding=1), norm(width)
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1), norm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), norm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = F.relu(self.bn0(self.stem(x)), inplace=True)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += x
        out = F.relu(out)
        return self.fc(out.mean((2, 3)))


class Folded(nn.Module):
    """Two parts of each sample go through the layer as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.fc = nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x):
        return self.fc(F.relu(self.bn(x.flatten(0, 1))).unflatten(0, (len(x), 2)).mean(1))


class Cut(Residual):
    """Tells its last layer nothing of where the features are from."""

    def forward(self, x):
        return self.fc(self.bn0(self.stem(x)).detach().mean((2, 3)))


@pytest.fixture
def network():
    found = Residual().eval()
    with torch.no_grad():
        for name in ("bn0", "bn1", "bn2"):
            layer = getattr(found, name)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 2)
            layer.bias.normal_(0, 0.3)
    return found


def pieces(network: Residual, image: torch.Tensor):
    """The definition, written down layer by layer: maps that keep their gradient, the last map, features, logits."""
    maps = [network.bn0(network.stem(image))]
    first = F.relu(maps[0])
    maps.append(network.bn1(network.conv1(first)))
    maps.append(network.bn2(network.conv2(F.relu(maps[1]))))
    last = F.relu(maps[2] + first)
    features = last.mean((2, 3))
    return maps, last, features, network.fc(features)


def by_hand(network: Residual, image: torch.Tensor, form: str) -> float:
    maps, last, features, logits = pieces(network, image[None])
    if form == "zero-deflation":
        found = torch.autograd.grad(logits.max(), maps)
        return float(torch.cat([(g != 0).double().mean((2, 3))[0] for g in found]).square().mean())
    (slope,) = torch.autograd.grad(logits.log_softmax(1).sum(), last, retain_graph=True)
    output = slope.mean((2, 3)).abs().mean().sqrt()
    inner = torch.cat([g.mean((2, 3))[0] for g in torch.autograd.grad(features.sum(), maps)]).abs()
    # The closed form is that of the features: the mean over positions divides by their number on the way to the map.
    return float((inner / output).square().mean() / last[0, 0].numel())


@each
def test_it_is_the_published_score_worked_out_one_image_at_a_time(form, network):
    images = torch.randn(12, 2, 7, 7).double()
    expected = [by_hand(network.double(), image, form) for image in images]
    np.testing.assert_allclose(GAIA(network, form).predict(images), expected, rtol=1e-10)
    assert len(set(expected)) == 12


@each
def test_batches_give_what_single_images_give(form, network):
    images = torch.randn(30, 2, 7, 7)
    whole = GAIA(network, form).predict(images)
    for size in (1, 7):
        torch.testing.assert_close(GAIA(network, form, batch_size=size).predict(images), whole, rtol=1e-5, atol=0)


def test_the_control_is_the_forward_pass_alone(network):
    images = torch.randn(9, 2, 7, 7)
    with torch.no_grad():
        maps, last, _, logits = pieces(network, images)
        # The sum takes the ReLU of the second convolution's map; the others have one of their own.
        active = [F.relu(maps[0]), F.relu(maps[1]), last]
        shares = torch.cat([(values > 0).double().mean((2, 3)) for values in active], dim=1)
        slope = (1 - 5 * logits.double().softmax(1)) @ network.fc.weight.double()
    found = GAIA(network, gradients=False).predict(images)
    np.testing.assert_allclose(found, shares.square().mean(1), rtol=1e-6)
    # Gradients of the largest logit are zero where these are, and nowhere else.
    np.testing.assert_allclose(GAIA(network).predict(images), found, rtol=1e-6)
    output = GAIA(network, "channel-average", gradients=False).predict(images)
    np.testing.assert_allclose(output, 1 / slope.abs().mean(1), rtol=1e-5)


@pytest.mark.parametrize(
    "relu", [nn.ReLU(), nn.ReLU(inplace=True), torch.relu, torch.relu_, F.relu, torch.Tensor.relu, torch.Tensor.relu_]
)
def test_the_control_finds_every_relu_once(relu):
    class Net(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.conv, self.bn, self.fc, self.relu = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3), activation

        def forward(self, x):
            return self.fc(self.relu(self.bn(self.conv(x))).mean((2, 3)))

    network = Net(relu).eval()
    images = torch.randn(9, 2, 7, 7)
    with torch.no_grad():
        expected = (network.bn(network.conv(images)) > 0).double().mean((2, 3)).square().mean(1)
    np.testing.assert_allclose(GAIA(network, gradients=False).predict(images), expected, rtol=1e-6)
    np.testing.assert_allclose(GAIA(network).predict(images), expected, rtol=1e-6)
    assert GAIA(Net(F.silu).eval(), gradients=False).predict(images).tolist() == [1.0] * 9


@each
def test_layers_are_chosen_by_name_and_explained_one_by_one(form, network):
    images = torch.randn(40, 2, 7, 7)
    every, some = GAIA(network, form), GAIA(network, form, layers=["bn0", "bn2"])
    verdict = every.calibrate(images, 0.1).judge(images[:4])
    layers = 3 if form == "zero-deflation" else 4  # the gradient of the output is one more
    assert verdict.profile.shape == (4, layers)
    assert [name.rsplit(" ", 1)[1] for name in verdict.names[:3]] == ["bn0", "bn1", "bn2"]
    assert not torch.equal(some.predict(images), every.predict(images))
    parts = [GAIA(network, form, layers=name).predict(images) for name in ("bn0", "bn2")]
    torch.testing.assert_close(some.predict(images), (parts[0] + parts[1]) / 2, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [lambda width: nn.GroupNorm(2, width), nn.InstanceNorm2d], ids=["group", "instance"])
@each
def test_other_normalisation_will_do(form, kind):
    network = Residual(norm=kind).eval()
    images = torch.randn(3, 2, 7, 7).double()
    expected = [by_hand(network.double(), image, form) for image in images]
    np.testing.assert_allclose(GAIA(network, form).predict(images), expected, rtol=1e-10)


@each
def test_a_layer_that_is_called_twice_counts_twice(form):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Linear(2, 3)

        def forward(self, x):
            return self.fc(F.relu(self.bn(F.relu(self.bn(self.conv(x))))).mean((2, 3)))

    network = Twice().eval()
    apart = copy.deepcopy(network)
    other = copy.deepcopy(network.bn)
    apart.forward = lambda x: apart.fc(F.relu(other(F.relu(apart.bn(apart.conv(x))))).mean((2, 3)))
    apart.other = other
    images = torch.randn(6, 2, 5, 5)
    torch.testing.assert_close(GAIA(network, form).predict(images), GAIA(apart, form).predict(images))


@each
def test_the_model_is_left_as_found_also_when_it_fails(form, network):
    network.bn1.bias.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    images = torch.randn(4, 2, 7, 7)
    kept = images.clone()
    detector = GAIA(network, form)
    frozen = copy.deepcopy(network).requires_grad_(False)
    with torch.inference_mode():
        inside = detector.predict(images)
    torch.testing.assert_close(inside, detector.predict(images))
    torch.testing.assert_close(inside, GAIA(frozen, form).predict(images))
    folded = Folded().eval()
    with pytest.raises(ModelError, match=r"output \(6, 7\) of the layer 'bn' does not begin with 3 samples"):
        GAIA(folded, form).predict(torch.randn(3, 2, 7))
    assert not any(module._forward_hooks for module in folded.modules())
    assert torch.equal(images, kept)
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
    assert network.conv1.weight.grad is None
    assert not network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_uniform_prediction_is_as_abnormal_as_any():
    network = Residual().eval()
    nn.init.zeros_(network.fc.bias)
    images = torch.randn(5, 2, 7, 7)
    sure = GAIA(network, "channel-average").predict(images)
    nn.init.zeros_(network.fc.weight)
    flat = GAIA(network, "channel-average").predict(images)
    assert torch.isfinite(flat).all()
    assert flat.min() > sure.max()


def test_what_it_cannot_read_is_refused(network, digits, tmp_path):
    without = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    for form in FORMS:
        with pytest.raises(ModelError, match="no batch, instance or group normalisation module"):
            GAIA(without, form)
    with pytest.raises(InputError, match=r"layers='layer4\.\*' matches none of the 3 normalisation layers \(bn0, bn1"):
        GAIA(network, layers=["bn*", "layer4.*"])
    with pytest.raises(InputError, match="layers is empty"):
        GAIA(network, layers=[])
    with pytest.raises(InputError, match="form is 'Z'; give 'zero-deflation' or 'channel-average'"):
        GAIA(network, "Z")
    with pytest.raises(ModelError, match="not the output of the last linear layer"):
        GAIA(nn.Sequential(network, nn.Tanh()).eval(), "channel-average").predict(torch.randn(2, 2, 7, 7))
    unused = nn.Sequential(nn.Flatten(), nn.Linear(98, 5)).eval()
    unused.aside = nn.BatchNorm2d(2).eval()
    unused.forward = lambda x: unused[1](unused[0](x))
    with pytest.raises(ModelError, match=r"calls none of its 1 normalisation layer"):
        GAIA(unused).predict(torch.randn(2, 2, 7, 7))
    for form in FORMS:
        with pytest.raises(ModelError, match="no gradient reaches them"):
            GAIA(Cut().eval(), form).predict(torch.randn(2, 2, 7, 7))
    smooth = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    for step in ("fit", "calibrate"):
        with pytest.raises(ModelError, match=r"no gradient is zero on any of 400 images.*channel-average"):
            getattr(GAIA(smooth), step)(digits.held_out)
    assert GAIA(smooth, "channel-average").calibrate(digits.held_out).calibration is not None


@each
@pytest.mark.parametrize("gradients", [True, False])
def test_it_is_saved_with_its_arguments(form, gradients, network, tmp_path):
    images = torch.randn(40, 2, 7, 7)
    detector = GAIA(network, form, ["bn0", "bn1"], gradients).calibrate(images, 0.1)
    detector.save(tmp_path / "gaia.safetensors")
    again = load(tmp_path / "gaia.safetensors", network)
    assert (again.form, again.layers, again.gradients) == (form, ["bn0", "bn1"], gradients)
    assert torch.equal(again.predict(images), detector.predict(images))
