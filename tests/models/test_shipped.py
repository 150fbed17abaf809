"""Models that come with the package: the mechanism on a folder of our own, then those that are really there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer import models
from gradiometer.errors import ArtefactError, InputError, ModelError
from gradiometer.models import shipped
from gradiometer.models.stored import Header, write


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with one untrained model."""
    model = models.build("digits-cnn", channels=1, size=8)
    header = Header("digits-cnn", 10, 1, 8, tuple("0123456789"))
    write(tmp_path / "digits-cnn-toy.safetensors", model, header, half=True)
    (tmp_path / "digits-cnn-toy.json").write_text(json.dumps({"test_accuracy": 0.1}), encoding="utf-8")
    (tmp_path / "README.md").write_text("not a model", encoding="utf-8")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    return tmp_path


def test_a_shipped_model_is_found_by_name(shelf: Path) -> None:
    assert models.names() == ("digits-cnn-toy",)
    model = models.load("digits-cnn-toy")
    assert not model.training
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert models.header("digits-cnn-toy").class_names == tuple("0123456789")
    assert models.record("digits-cnn-toy") == {"test_accuracy": 0.1}


def test_an_unknown_name_leads_to_the_closest(shelf: Path) -> None:
    with pytest.raises(ModelError, match=r"unknown model 'digit-cnn-toy'; did you mean digits-cnn-toy\?"):
        models.load("digit-cnn-toy")
    with pytest.raises(ModelError, match=r"no model 'digits'.* digits-cnn-toy"):
        models.record("digits")


def test_a_shipped_model_takes_no_options(shelf: Path) -> None:
    with pytest.raises(InputError, match=r"complete and takes no classes, mean, progress"):
        models.load("digits-cnn-toy", classes=3, mean=[0.5], progress=True)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_record(shelf: Path, content: str | None) -> None:
    path = shelf / "digits-cnn-toy.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(ArtefactError, match="training record of digits-cnn-toy cannot be read"):
        models.record("digits-cnn-toy")


def test_without_the_folder_there_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nowhere")
    assert models.names() == ()
    with pytest.raises(ModelError, match="unknown model 'resnet20-cifar10'"):
        models.load("resnet20-cifar10")


ACCURACY = {"resnet20-cifar10": 0.91, "densenet-bc-40-12-cifar10": 0.87}
"""What the shipped models have at least; the records say what they have."""


@pytest.mark.parametrize("name", models.names())
def test_what_really_comes_with_the_package(name: str) -> None:
    record, header = models.record(name), models.header(name)
    with shipped.weights(name) as file:
        assert file.stat().st_size < 1_000_000
    model = models.load(name)
    assert record["stored"]["weights"] == models.weights_hash(model)
    assert record["architecture"] == header.architecture
    assert record["test_accuracy"] >= ACCURACY[name]
    assert model(torch.rand(2, header.channels, header.size, header.size)).shape == (2, header.classes)


@pytest.mark.parametrize("name", [name for name in models.names() if name.endswith("-cifar10")])
def test_accuracy_on_real_images_is_that_of_the_record(name: str, data_root: Path) -> None:
    with np.load(data_root / "cifar10.npz") as arrays:
        images, labels = arrays["test_images"][:1000], arrays["test_labels"][:1000].reshape(-1)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        right = float((models.load(name)(x).argmax(1).numpy() == labels).mean())
    accuracy = models.record(name)["test_accuracy"]
    # Four standard errors of a share of 1,000 images.
    assert abs(right - accuracy) < 4 * (accuracy * (1 - accuracy) / 1000) ** 0.5
