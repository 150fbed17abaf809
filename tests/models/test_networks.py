"""The networks against the published counts, and against torchvision's or a functional form with the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError
from gradiometer.models import architectures, build
from gradiometer.models.densenet import DenseNet, densenet
from gradiometer.models.normalize import Normalize, Standardize
from gradiometer.models.resnet import resnet18, resnet34
from gradiometer.models.small import CureTsrLeNet, DigitsCNN


def counts(model: nn.Module) -> tuple[int, int]:
    """Parameter tensors and parameters."""
    sizes = [parameter.numel() for parameter in model.parameters()]
    return len(sizes), sum(sizes)


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers of one network to another that registers the same ones in the same order."""
    mine, theirs = list(source.parameters()), list(target.parameters())
    assert [p.shape for p in mine] == [p.shape for p in theirs]
    buffers = [b for name, b in source.named_buffers() if not name.startswith("normalize.")]
    with torch.no_grad():
        for a, b in zip([*mine, *buffers], [*theirs, *target.buffers()], strict=True):
            b.copy_(a)


def randomise(model: nn.Module) -> nn.Module:
    """Give batch norm statistics and factors that matter, then freeze them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("resnet18", 62, 11_173_962),
        ("resnet34", 110, 21_282_122),
        ("densenet-bc-100-12", 299, 769_162),
        ("densenet-bc-40-12", 119, 176_122),
        # Stem, nine blocks of two convolutions with their norms, and the head.
        ("resnet20", 3 + 9 * 6 + 2, 269_722),
    ],
)
def test_published_counts(name: str, tensors: int, parameters: int) -> None:
    assert counts(build(name)) == (tensors, parameters)


def test_lenet_has_the_ten_tensors_of_cure_tsr() -> None:
    shapes = [tuple(p.shape) for p in CureTsrLeNet().parameters()]
    assert shapes[::2] == [(6, 3, 5, 5), (16, 6, 5, 5), (120, 256), (84, 120), (14, 84)]
    assert shapes[1::2] == [(6,), (16,), (120,), (84,), (14,)]


@pytest.mark.parametrize(("ours", "theirs"), [(resnet18, "resnet18"), (resnet34, "resnet34")])
def test_resnet_agrees_with_torchvision_with_a_small_stem(ours, theirs) -> None:
    model = randomise(ours(mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]))
    peer = torchvision.models.get_model(theirs, weights=None, num_classes=10)
    peer.conv1, peer.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    copy_in_order(model, peer.eval())
    x = torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(model(x), peer((x - mean) / std), rtol=1e-4, atol=1e-4)


def test_densenet_agrees_with_torchvision_with_a_small_stem() -> None:
    model = randomise(densenet(22, 4, classes=7))
    peer = torchvision.models.DenseNet(
        growth_rate=4, block_config=(3, 3, 3), num_init_features=8, bn_size=4, num_classes=7
    )
    peer.features.conv0 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    peer.features.norm0 = peer.features.relu0 = peer.features.pool0 = nn.Identity()
    copy_in_order(model, peer.eval())
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model(x), peer(x), rtol=1e-4, atol=1e-5)


def test_plain_densenet_has_no_bottleneck_and_keeps_its_channels() -> None:
    # Huang et al., Table 2: DenseNet (k = 12, depth 40) has 1.0 million parameters.
    tensors, parameters = counts(DenseNet(40, 12, reduction=1.0, bottleneck=False))
    assert tensors == 36 * 3 + 1 + 2 * 3 + 2 + 2
    assert round(parameters / 1e6, 1) == 1.0


def test_parameter_free_shortcut_of_resnet20_subsamples_and_pads() -> None:
    block = build("resnet20").layer2[0].eval()
    for parameter in block.conv2.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 16, 8, 8)
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), expected)


def lenet_by_hand(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The released preprocessing (L2 norm, then each channel of each image) and network, image by image."""
    rows = []
    for image in x:
        image = image * 255
        image = image / image.norm()
        image = torch.stack([(channel - channel.mean()) / channel.std() for channel in image])[None]
        for layer in ("conv1", "conv2"):
            image = F.max_pool2d(F.relu(F.conv2d(image, weights[f"{layer}.weight"], weights[f"{layer}.bias"])), 2)
        image = image.flatten(1)
        for layer in ("fc1", "fc2"):
            image = F.relu(F.linear(image, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
        rows.append(F.linear(image, weights["fc3.weight"], weights["fc3.bias"]))
    return torch.cat(rows)


def test_lenet_agrees_with_its_functional_form() -> None:
    model = CureTsrLeNet().double()
    x = torch.rand(3, 3, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(model(x), lenet_by_hand(model.state_dict(), x))


def test_standardize_makes_a_constant_channel_zero() -> None:
    x = torch.rand(2, 3, 8, 8)
    x[:, 1] = 0.3
    out = Standardize(3)(x)
    assert torch.isfinite(out).all()
    assert out[:, 1].abs().max() < 0.1
    torch.testing.assert_close(out[:, 0].std((1, 2)), torch.ones(2))


@pytest.mark.parametrize("size", [8, 28])
def test_digits_network_agrees_with_its_functional_form(size: int) -> None:
    model = DigitsCNN(size=size, mean=[0.3], std=[0.4])
    w = model.state_dict()
    x = torch.rand(2, 1, size, size)
    h = F.relu(F.conv2d((x - 0.3) / 0.4, w["conv1.weight"], w["conv1.bias"], padding=1))
    h = F.max_pool2d(F.relu(F.conv2d(h, w["conv2.weight"], w["conv2.bias"], padding=1)), 2)
    h = F.avg_pool2d(F.relu(F.conv2d(h, w["conv3.weight"], w["conv3.bias"], padding=1)), 2)
    h = F.relu(F.linear(h.flatten(1), w["fc1.weight"], w["fc1.bias"]))
    torch.testing.assert_close(model.features(x), h)
    torch.testing.assert_close(model(x), F.linear(h, w["fc2.weight"], w["fc2.bias"]))


@pytest.mark.parametrize("name", ["resnet20", "densenet-bc-40-12", "digits-cnn", "cure-tsr-lenet"])
def test_every_architecture_takes_any_classes_channels_and_size(name: str) -> None:
    model = build(name, classes=5, channels=2, size=20, mean=[0.1, 0.2], std=[0.3, 0.4]).eval()
    x = torch.rand(3, 2, 20, 20)
    assert model(x).shape == (3, 5)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(last(model.features(x)), model(x))
    torch.testing.assert_close(model(x.flip(0)), model(x).flip(0))


def test_normalisation_is_inside_and_saved() -> None:
    model = build("resnet20", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).eval()
    assert model.state_dict()["normalize.mean"].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.state_dict()["normalize.std"].flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    # An image that is the mean everywhere is zero behind the normalisation, so the stem returns its zero.
    image = model.normalize.mean.expand(1, 3, 8, 8)
    assert model.conv1(model.normalize(image)).abs().max() == 0


def test_unknown_architecture_names_the_closest() -> None:
    with pytest.raises(ModelError, match=r"'resnet-20'; did you mean resnet20"):
        build("resnet-20")
    with pytest.raises(ModelError, match=r"choose one of .*cure-tsr-lenet"):
        build("zzz")
    assert "densenet-bc-100-12" in architectures()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "classes must be at least 2 for resnet20, got 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"size": 4}, "size must be at least 8"),
        ({"mean": [0.5]}, "mean must have one number for each of 3 channels"),
        ({"std": [0.5, 0.0, 0.5]}, "std must be above zero"),
    ],
)
def test_numbers_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("resnet20", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 99}, "depth must be 6 n"),
        ({"depth": 4}, "depth must be 6 n"),
        ({"depth": 41, "bottleneck": False}, "depth must be 3 n"),
        ({"growth": 0}, "growth must be at least 1, got 0"),
        ({"reduction": 0.0}, "reduction must be above 0"),
    ],
)
def test_densenets_that_do_not_exist(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        densenet(**arguments)


def test_small_networks_refuse_images_they_would_pool_away() -> None:
    with pytest.raises(InputError, match="at least 4 x 4"):
        DigitsCNN(size=3)
    with pytest.raises(InputError, match="at least 16 x 16"):
        CureTsrLeNet(size=15)


@pytest.mark.parametrize(
    ("network", "x", "message"),
    [
        (lambda: build("resnet20"), torch.rand(2, 1, 32, 32), r"shape \(B, 3, H, W\), got \(2, 1, 32, 32\)"),
        (lambda: Normalize(3), torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "floating point in .* got torch.uint8"),
        (lambda: DigitsCNN(size=8), torch.rand(2, 1, 28, 28), r"shape \(B, 1, 8, 8\), got \(2, 1, 28, 28\)"),
        (CureTsrLeNet, torch.rand(2, 3, 32, 32), r"shape \(B, 3, 28, 28\)"),
        (CureTsrLeNet, torch.rand(28, 28), r"shape \(B, 3, 28, 28\)"),
    ],
)
def test_wrong_images_are_refused_instead_of_broadcast(network, x: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        network().eval()(x)
