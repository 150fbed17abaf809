"""`load` for torchvision, timm and transformers: offline, tiny, against a direct call of the library."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from gradiometer import models
from gradiometer.errors import ArtefactError, DependencyError, ModelError

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TINY = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}


def normalised(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fail on any attempt to reach the network; the list keeps the addresses that were asked for."""
    asked: list[str] = []

    def refuse(address: str, *_: object, **__: object) -> None:
        asked.append(address)
        raise OSError(f"no network for {address}")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    return asked


def test_torchvision_without_weights(offline: list[str]) -> None:
    torch.manual_seed(1)
    model = models.load("torchvision:resnet18", classes=5)
    torch.manual_seed(1)
    peer = torchvision.models.resnet18(num_classes=5).eval()
    x = torch.rand(2, 3, 32, 32)
    assert not model.training
    torch.testing.assert_close(model(x), peer(normalised(x, *IMAGENET)))
    assert offline == []


def test_torchvision_with_a_file_and_other_normalisation(tmp_path: Path) -> None:
    peer = torchvision.models.squeezenet1_1(num_classes=4).eval()
    safetensors.torch.save_file(peer.state_dict(), tmp_path / "mine.safetensors")
    x = torch.rand(1, 3, 48, 48)
    for call in (
        lambda **kw: models.load(f"torchvision:squeezenet1_1@{tmp_path / 'mine.safetensors'}", **kw),
        lambda **kw: models.load("torchvision:squeezenet1_1", weights=str(tmp_path / "mine.safetensors"), **kw),
    ):
        model = call(classes=4, mean=[0.1, 0.2, 0.3], std=[1, 1, 2])
        torch.testing.assert_close(model(x), peer(normalised(x, [0.1, 0.2, 0.3], [1, 1, 2])))
        with pytest.raises(ArtefactError, match="another network than SqueezeNet"):
            call()


def test_torchvision_downloads_when_asked_and_only_then(monkeypatch: pytest.MonkeyPatch, offline: list[str]) -> None:
    with pytest.raises(ArtefactError, match=r"weights of torchvision:squeezenet1_1 cannot be fetched .*no network for"):
        models.load("torchvision:squeezenet1_1", weights="DEFAULT")
    assert len(offline) == 1
    state = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    model = models.load("torchvision:squeezenet1_1", weights="IMAGENET1K_V1")
    assert torch.equal(model.network.classifier[1].weight, state["classifier.1.weight"])


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("torchvision:resnet19", {}, r"no classifier 'resnet19'; did you mean resnet1"),
        ("torchvision:fcn_resnet50", {}, "no classifier 'fcn_resnet50'"),
        ("torchvision:resnet18", {"weights": "IMAGENET1K_V9"}, r"no weights 'IMAGENET1K_V9' .*IMAGENET1K_V1"),
        ("torchvision:resnet18", {"weights": "imagenet1k_v1"}, r"did you mean IMAGENET1K_V1"),
        ("torchvision:resnet18", {"colour": "red"}, r"cannot be built .*TypeError"),
        ("torchvision:resnet18@a.pt", {"weights": "DEFAULT"}, "two sets of weights for resnet18"),
        ("timm:resnet10x", {}, r"no model 'resnet10x'; did you mean resnet10t"),
        ("timm:resnet10t", {"in_chans": 1}, r"takes 1 channels but is normalised by 3 means"),
        ("hf:resnett", {}, r"hf:resnett is neither .* did you mean resnet"),
        ("hf:resnet", {"weights": "DEFAULT"}, "a configuration, which has no published weights"),
        ("hf:resnet", {"weights": "v2"}, "weights='v2' means nothing"),
        ("hf:resnet", {**TINY, "mean": [0.5, 0.5, 0.5]}, "needs mean= and std= together"),
    ],
)
def test_wrong_names_and_options(spec: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.load(spec, **options)


def test_timm(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    model = models.load("timm:resnet10t", classes=6)
    torch.manual_seed(1)
    peer = timm.create_model("resnet10t", num_classes=6).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(x), peer(normalised(x, *IMAGENET)))
    safetensors.torch.save_file(peer.state_dict(), tmp_path / "mine.safetensors")
    again = models.load(f"timm:resnet10t@{tmp_path / 'mine.safetensors'}", classes=6)
    torch.testing.assert_close(again(x), model(x))
    grey = models.load("timm:resnet10t", classes=6, in_chans=1, mean=[0.5], std=[0.5])
    assert grey(torch.rand(2, 1, 32, 32)).shape == (2, 6)


def test_timm_downloads_when_asked_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    asked: list[tuple[str, bool]] = []

    def create(name: str, *, pretrained: bool, **_: object) -> nn.Module:
        asked.append((name, pretrained))
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", create)
    for weights in ("DEFAULT", "c3_in1k"):
        with pytest.raises(ArtefactError, match=r"cannot be fetched \(OSError: no network\); .* give a file"):
            models.load("timm:resnet10t", weights=weights)
    with pytest.raises(ModelError, match="cannot be built"):
        models.load("timm:resnet10t")
    assert asked == [("resnet10t", True), ("resnet10t.c3_in1k", True), ("resnet10t", False)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny classifier, as transformers writes it."""
    import transformers

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(2)
    config = transformers.ResNetConfig(**TINY, num_labels=3)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    processing = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processing), encoding="utf-8")
    return folder


def test_transformers_from_a_folder(trained: Path) -> None:
    import transformers

    model = models.load(f"hf:{trained}")
    peer = transformers.ResNetForImageClassification.from_pretrained(trained).eval()
    x = torch.rand(2, 3, 32, 32)
    expected = peer(normalised(x, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])).logits
    assert expected.shape == (2, 3)
    torch.testing.assert_close(model(x), expected)
    other = models.load(f"hf:{trained}", mean=[0, 0, 0], std=[1, 1, 1])
    torch.testing.assert_close(other(x), peer(x).logits)


def test_transformers_untrained_from_a_configuration_or_a_kind(trained: Path) -> None:
    x = torch.rand(2, 3, 32, 32)
    model = models.load(f"hf:{trained / 'config.json'}")
    assert model(x).shape == (2, 3)
    assert isinstance(model.normalize, nn.Identity)
    assert models.load("hf:resnet", classes=4, **TINY)(x).shape == (2, 4)
    weights = safetensors.torch.load_file(trained / "model.safetensors")
    filled = models.load(f"hf:{trained / 'config.json'}@{trained / 'model.safetensors'}")
    torch.testing.assert_close(filled.network.classifier[1].weight, weights["classifier.1.weight"])


def test_transformers_whose_head_was_never_trained(tmp_path: Path) -> None:
    import transformers

    transformers.ResNetModel(transformers.ResNetConfig(**TINY)).save_pretrained(tmp_path)
    with pytest.raises(ArtefactError, match=r"no weights for classifier\.1\.bias, .* not trained to classify"):
        models.load(f"hf:{tmp_path}")


def test_transformers_what_is_missing(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
    with pytest.raises(ArtefactError, match=r"cannot be loaded .* needs config\.json and model\.safetensors"):
        models.load(f"hf:{tmp_path}")
    with pytest.raises(ArtefactError, match=r"no configuration nowhere/config\.json"):
        models.load("hf:nowhere/config.json")


def test_transformers_never_downloads_unasked(offline: list[str]) -> None:
    with pytest.raises(ArtefactError, match=r"not in the local cache; weights='DEFAULT' asks for the download"):
        models.load("hf:nobody-at-all/no-such-model")
    assert offline == []


@pytest.mark.parametrize(
    ("spec", "module", "extra"), [("timm:resnet18", "timm", "timm"), ("hf:vit", "transformers", "hf")]
)
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, spec: str, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=rf"{module} is not installed; pip install 'gradiometer\[{extra}\]'"):
        models.load(spec)


def test_weights_of_a_library_that_are_nan(trained: Path, tmp_path: Path) -> None:
    weights = safetensors.torch.load_file(trained / "model.safetensors")
    weights["classifier.1.bias"][0] = torch.nan
    safetensors.torch.save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match=r"parameter network\.classifier\.1\.bias .* NaN"):
        models.load(f"hf:{trained / 'config.json'}@{tmp_path / 'nan.safetensors'}")
