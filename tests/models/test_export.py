"""From arrays to a stored model and its record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from gradiometer import models
from gradiometer.errors import ArtefactError, InputError, ModelError
from gradiometer.models import Labelled, Recipe, train_to_file, weights_hash
from gradiometer.models.export import channel_statistics
from gradiometer.models.stored import Header, read, write

RECIPE = Recipe(epochs=2, batch_size=16, learning_rate=0.05, augment="crop", seed=4)


def pictures(count: int = 48, channels: int = 1, size: int = 8, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 60, (count, channels, size, size)) + labels[:, None, None, None] * 60
    return Labelled(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))


def test_channel_statistics_are_those_of_numpy() -> None:
    images = pictures(30, channels=3).images
    mean, std = channel_statistics(images)
    scaled = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3), ddof=1), rtol=1e-12)


def test_a_constant_channel_can_be_divided_by() -> None:
    images = torch.full((3, 2, 4, 4), 51, dtype=torch.uint8)
    images[:, 1] = torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    assert mean[0] == pytest.approx(0.2)
    assert std[0] == 1.0


@pytest.mark.parametrize("half", [True, False])
def test_the_record_describes_the_stored_file(tmp_path: Path, half: bool) -> None:
    known, test = pictures(channels=3, size=16), pictures(21, channels=3, size=16, seed=1)
    names = ["ant", "bee", "cat", "dog"]
    record = train_to_file("resnet20", known, test, tmp_path / "run", RECIPE, class_names=names, half=half)

    path = tmp_path / "run" / "model.safetensors"
    assert json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8")) == record
    assert record["stored"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["stored"]["bytes"] == path.stat().st_size
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["gradiometer"])["architecture"] == "resnet20"
        assert file.get_tensor("fc.weight").dtype == (torch.float16 if half else torch.float32)

    model = models.load(tmp_path / "run")
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert record["stored"]["weights"] == weights_hash(model)
    predicted = model(test.images.float() / 255).argmax(1)
    assert record["test_accuracy"] == np.mean(predicted.numpy() == test.labels.numpy())
    assert models.header(tmp_path / "run") == Header("resnet20", 4, 3, 16, tuple(names))
    mean, std = channel_statistics(known.images)
    tolerance = 1e-3 if half else 1e-6
    assert model.normalize.mean.flatten().tolist() == pytest.approx(mean, rel=tolerance)
    assert model.normalize.std.flatten().tolist() == pytest.approx(std, rel=tolerance)


def test_an_interrupted_run_ends_with_the_same_file(tmp_path: Path) -> None:
    known, test = pictures(), pictures(12, seed=1)
    whole = train_to_file("digits-cnn", known, test, tmp_path / "whole", RECIPE)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_to_file("digits-cnn", known, test, tmp_path / "parts", RECIPE, progress=stop)
    with pytest.raises(ArtefactError, match=r"holds no model\.safetensors; its training is not finished"):
        models.load(tmp_path / "parts")
    torch.manual_seed(123)
    parts = train_to_file("digits-cnn", known, test, tmp_path / "parts", RECIPE)
    assert parts["stored"] == whole["stored"]
    again = train_to_file("digits-cnn", known, test, tmp_path / "parts", RECIPE)
    assert again == parts


def test_the_random_numbers_of_the_caller_stay_where_they_are(tmp_path: Path) -> None:
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    train_to_file("digits-cnn", pictures(), pictures(8), tmp_path, RECIPE)
    models.load(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    hashes = [
        train_to_file("digits-cnn", pictures(), pictures(8), tmp_path / str(turn), recipe)["stored"]["weights"]
        for turn, recipe in enumerate([RECIPE, RECIPE, Recipe(epochs=2, batch_size=16, learning_rate=0.05, seed=5)])
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_without_a_recipe_that_of_the_architecture_is_taken(tmp_path: Path) -> None:
    def stop(figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_to_file("digits-cnn", pictures(), pictures(8), tmp_path, progress=stop)
    with pytest.raises(ArtefactError, match="another augment, batch_size, epochs, learning_rate;"):
        train_to_file("digits-cnn", pictures(), pictures(8), tmp_path, Recipe(epochs=3))


def test_bad_input_is_refused_before_any_training(tmp_path: Path) -> None:
    known, test = pictures(), pictures(8)
    wide = Labelled(torch.zeros(4, 1, 8, 9, dtype=torch.uint8), torch.arange(4))
    cases = [
        (ModelError, "did you mean digits-cnn", lambda: train_to_file("digit-cnn", known, test, tmp_path)),
        (InputError, "square, got 8 x 9", lambda: train_to_file("digits-cnn", wide, wide, tmp_path)),
        (
            InputError,
            r"test images have shape \(1, 16, 16\), training images \(1, 8, 8\)",
            lambda: train_to_file("digits-cnn", known, pictures(8, size=16), tmp_path),
        ),
        (
            InputError,
            "a label 3 but only 2 class names",
            lambda: train_to_file("digits-cnn", known, test, tmp_path, class_names=["a", "b"]),
        ),
        (
            InputError,
            "1 of 5 classes have no training image: e;",
            lambda: train_to_file("digits-cnn", known, test, tmp_path, class_names="abcde"),
        ),
    ]
    for error, message, call in cases:
        with pytest.raises(error, match=message):
            call()
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_float16_are_kept_in_float32(tmp_path: Path) -> None:
    model = models.build("resnet20", size=8)
    model.bn1.running_var.fill_(1e6)
    write(tmp_path / "model.safetensors", model, Header("resnet20", 10, 3, 8, tuple("abcdefghij")), half=True)
    stored = read(tmp_path / "model.safetensors")
    assert stored.bn1.running_var[0] == 1e6
    assert torch.equal(stored.fc.weight, model.fc.weight.half().float())


def test_a_finished_training_keeps_what_it_began_with(tmp_path: Path) -> None:
    known, test = pictures(), pictures(8)
    first, second = (
        train_to_file("digits-cnn", known, test, tmp_path / str(seed), Recipe(epochs=1, batch_size=16, seed=seed))
        for seed in (0, 1)
    )
    words = ("digits-cnn", known, test, tmp_path / "warm", RECIPE)
    warm = train_to_file(*words, start_from=tmp_path / "0")
    assert warm["started_from"] == first
    assert train_to_file(*words, start_from=tmp_path / "0") == warm
    before = (tmp_path / "warm" / "record.json").read_bytes()
    with pytest.raises(ArtefactError, match=f"began with weights {first['stored']['weights'][:12]}.* another folder"):
        train_to_file(*words, start_from=tmp_path / "1")
    with pytest.raises(ArtefactError, match="would be random ones; give the same start_from"):
        train_to_file(*words)
    assert (tmp_path / "warm" / "record.json").read_bytes() == before
    with pytest.raises(ArtefactError, match="began with random weights"):
        train_to_file(*words[:3], tmp_path / "1", Recipe(epochs=1, batch_size=16, seed=1), start_from=tmp_path / "0")
    assert json.loads((tmp_path / "1" / "record.json").read_text()) == second


def test_the_weights_to_start_from_are_not_replaced(tmp_path: Path) -> None:
    train_to_file("digits-cnn", pictures(), pictures(8), tmp_path, RECIPE)
    (tmp_path / "checkpoint.safetensors").unlink()
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="train into another folder"):
        train_to_file("digits-cnn", pictures(), pictures(8), tmp_path, RECIPE, start_from=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
