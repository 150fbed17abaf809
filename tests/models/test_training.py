"""Training: the schedule, one step by hand, augmentation by a loop, and interruption without a trace."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gradiometer.errors import ArtefactError, InputError
from gradiometer.models.resnet import ResNet
from gradiometer.models.small import DigitsCNN
from gradiometer.models.training import Labelled, Recipe, _batches, accuracy, train


def stripes(count: int, channels: int = 1, size: int = 8, seed: int = 0) -> Labelled:
    """Horizontal stripes (class 0), vertical stripes (1) and noise (2)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, (count, channels, size, size))
    images[labels == 0, :, ::2] += 130
    images[labels == 1, :, :, ::2] += 130
    return Labelled(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))


def small(seed: int = 0, channels: int = 1) -> nn.Module:
    """A network with everything that has state: batch norm, momentum, biases.

    Not narrower: on processors without AVX-512, PyTorch 2.14 gets the weight gradient of a 1 x 1 convolution of four
    channels with stride 2 wrong where channels come last, and writes beyond its memory.
    """
    torch.manual_seed(seed)
    return ResNet((1, 1), (8, 16), classes=3, channels=channels)


TINY = Recipe(epochs=4, batch_size=16, learning_rate=0.05, augment="crop-flip", label_smoothing=0.1)


def without_time(record: dict[str, object]) -> dict[str, object]:
    epochs = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in record["epochs"]]
    return {key: value for key, value in record.items() if key not in ("seconds", "epochs")} | {"epochs": epochs}


def test_cosine_schedule_is_that_of_torch() -> None:
    recipe = Recipe(learning_rate=0.3, schedule="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert recipe.rate(step / 20) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_one_cycle_rises_linearly_for_a_quarter_and_falls_along_a_cosine_to_zero() -> None:
    recipe = Recipe(learning_rate=0.4)
    rates = [recipe.rate(step / 1000) for step in range(1001)]
    assert np.argmax(rates) == 250
    assert rates[250] == pytest.approx(0.4)
    assert rates[0] == pytest.approx(0.4 / 25)
    assert np.allclose(np.diff(rates[:250]), np.diff(rates)[0])
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[625] == pytest.approx(0.2)
    assert (np.diff(rates[250:]) < 0).all()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", -0.1),
        ("learning_rate", math.nan),
        ("momentum", 1.0),
        ("momentum", 0.0),
        ("weight_decay", -1e-4),
        ("label_smoothing", 1.0),
        ("schedule", "linear"),
        ("augment", "mixup"),
        ("precision", "float16"),
        ("seed", -1),
    ],
)
def test_recipes_that_cannot_train_are_refused(setting: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{setting} is {value!r}; give"):
        replace(Recipe(), **{setting: value})


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.rand(4, 1, 8, 8), torch.zeros(4).long(), "must be uint8"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), r"\(4, 8, 8\)"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(3).long(), "4 images but labels of shape"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0).long(), "no images"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2), "labels must be integers"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, -1]), "from -1"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Labelled(images, labels)


def test_steps_are_those_of_nesterov_written_out(tmp_path: Path) -> None:
    known = stripes(12)
    recipe = Recipe(epochs=2, batch_size=6, learning_rate=0.1, schedule="cosine", weight_decay=0.01, augment="none")

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1))

    model = Flat()
    weight, bias = model.head.weight.detach().double().clone(), model.head.bias.detach().double().clone()
    train(model, known, known, recipe, tmp_path)

    speed_weight, speed_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for epoch in range(2):
        for step, (images, labels) in enumerate(_batches(known, recipe, epoch)):
            rate = 0.05 * (1 + math.cos(math.pi * (epoch + step / 2) / 2))
            x = images.flatten(1).double() / 255
            error = (torch.softmax(x @ weight.T + bias, 1) - nn.functional.one_hot(labels, 3)) / len(x)
            gradient_weight, gradient_bias = error.T @ x + 0.01 * weight, error.sum(0)
            speed_weight = 0.9 * speed_weight + gradient_weight
            speed_bias = 0.9 * speed_bias + gradient_bias
            weight = weight - rate * (gradient_weight + 0.9 * speed_weight)
            bias = bias - rate * (gradient_bias + 0.9 * speed_bias)
    torch.testing.assert_close(model.head.weight.detach().double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.head.bias.detach().double(), bias, rtol=1e-4, atol=1e-6)


def test_augmented_images_are_shifted_or_mirrored_originals() -> None:
    known = stripes(20, channels=2, size=16)
    recipe = Recipe(batch_size=7, augment="crop-flip", seed=5)
    seen: set[tuple[int, int, bool]] = set()
    count = 0
    for images, labels in _batches(known, recipe, epoch=0):
        for image, label in zip(images.numpy(), labels, strict=True):
            found = [
                (down, right, mirrored)
                for original in known.images[known.labels == label].numpy()
                for padded in [np.pad(original, ((0, 0), (2, 2), (2, 2)))]
                for down in range(5)
                for right in range(5)
                for mirrored in (False, True)
                if np.array_equal(
                    image, padded[:, down : down + 16, right : right + 16][:, :, :: -1 if mirrored else 1]
                )
            ]
            assert found
            seen.update(found)
            count += 1
    assert count == 20
    assert len({(down, right) for down, right, _ in seen}) > 8
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_every_epoch_sees_every_image_once_in_another_order() -> None:
    known = Labelled(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10))
    orders = [
        torch.cat([labels for _, labels in _batches(known, replace(TINY, batch_size=4), epoch)]).tolist()
        for epoch in (0, 1, 0)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] == orders[2] != orders[1]


def test_training_learns_and_says_how_it_went(tmp_path: Path) -> None:
    torch.manual_seed(0)
    known, test = stripes(96), stripes(30, seed=1)
    model = DigitsCNN(classes=3)
    recipe = Recipe(epochs=12, batch_size=16, learning_rate=0.05, augment="none")
    seen: list[dict[str, float]] = []
    steps: list[tuple[int, int]] = []
    record = train(
        model, known, test, recipe, tmp_path, progress=seen.append, steps=lambda done, of: steps.append((done, of))
    )
    assert record["epochs"][-1]["test_accuracy"] == accuracy(model, test) > 0.9
    assert record["epochs"][-1]["loss"] < record["epochs"][0]["loss"]
    assert [figures["epoch"] for figures in seen] == list(range(1, 13))
    assert steps == [(step, 72) for step in range(1, 73)]
    assert record["recipe"] == asdict(recipe)
    assert record["images"] == {"train": 96, "test": 30}
    assert record["sha256"]["train"] == known.digest() != test.digest()


def test_accuracy_is_measured_in_evaluation_mode_and_leaves_the_mode() -> None:
    model, test = small().train(), stripes(13)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured = accuracy(model, test, batch_size=4)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    predicted = model.eval()(test.images.float() / 255).argmax(1)
    assert measured == pytest.approx(np.mean(predicted.numpy() == test.labels.numpy()))


class Stop(BaseException):
    """An interruption from outside."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("where", ["between epochs", "within an epoch"])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, precision: str, where: str) -> None:
    known, test = stripes(60, channels=3), stripes(12, channels=3, seed=1)
    recipe = replace(TINY, precision=precision)
    whole = small(channels=3).to(memory_format=torch.channels_last)
    expected = train(whole, known, test, recipe, tmp_path / "whole")

    at = int(np.random.default_rng(len(where) + len(precision)).integers(1, recipe.epochs))

    def stop_epoch(figures: dict[str, float]) -> None:
        if where == "between epochs" and figures["epoch"] == at:
            raise Stop

    def stop_step(done: int, of: int) -> None:
        if where == "within an epoch" and done == at * 4 + 2:
            raise Stop

    first = small(channels=3).to(memory_format=torch.channels_last)
    with pytest.raises(Stop):
        train(first, known, test, recipe, tmp_path / "parts", progress=stop_epoch, steps=stop_step)
    # Another process would start from other initial weights and another state of the global generator.
    parts = small(seed=99, channels=3).to(memory_format=torch.channels_last)
    done: list[float] = []
    record = train(
        parts, known, test, recipe, tmp_path / "parts", progress=lambda figures: done.append(figures["epoch"])
    )

    assert done == list(range(at + 1, recipe.epochs + 1))
    assert without_time(record) == without_time(expected)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    known = stripes(24)
    first = train(small(), known, known, TINY, tmp_path)
    again = small(seed=7)
    assert train(again, known, known, TINY, tmp_path, progress=lambda _: pytest.fail("trained again")) == first


def test_a_checkpoint_without_a_hash_of_the_images_is_continued(tmp_path: Path) -> None:
    """Checkpoints of the first version hold weights, momentum, recipe and figures alone."""
    known, recipe = stripes(24), replace(TINY, epochs=2)
    whole = small()
    train(whole, known, known, recipe, tmp_path / "whole")
    stop = iter([None])

    def interrupt(_: dict[str, float]) -> None:
        next(stop)
        raise Stop

    with pytest.raises(Stop):
        train(small(), known, known, recipe, tmp_path / "parts", progress=interrupt)
    path = tmp_path / "parts" / "checkpoint.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert len(json.loads(metadata["epochs"])) == 1
    kept = {key: metadata[key] for key in ("recipe", "epochs")}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=kept)
    parts = small(seed=1)
    train(parts, known, known, recipe, tmp_path / "parts")
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    known = stripes(24)
    recipe = replace(TINY, epochs=1)
    train(small(), known, known, recipe, tmp_path)
    with pytest.raises(ArtefactError, match="another epochs, seed"):
        train(small(), known, known, replace(recipe, epochs=2, seed=1), tmp_path)
    with pytest.raises(ArtefactError, match="other images"):
        train(small(), stripes(24, seed=2), known, recipe, tmp_path)
    with pytest.raises(ArtefactError, match="weights of another model"):
        train(DigitsCNN(classes=3), known, known, recipe, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_a_broken_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    known = stripes(24)
    path = tmp_path / "checkpoint.safetensors"
    if content is None:
        train(small(), known, known, replace(TINY, epochs=1), tmp_path)
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"not a training checkpoint .* delete it"):
        train(small(), known, known, replace(TINY, epochs=1), tmp_path)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = stripes(24)
    recipe = replace(TINY, epochs=3)

    def full(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    def block(figures: dict[str, float]) -> None:
        if figures["epoch"] == 1:
            monkeypatch.setattr(safetensors.torch, "save_file", full)

    with pytest.raises(ArtefactError, match=r"cannot be written .* free space"):
        train(small(), known, known, recipe, tmp_path, progress=block)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*partial"))
    record = train(small(seed=3), known, known, recipe, tmp_path)
    whole = train(small(), known, known, recipe, tmp_path / "whole")
    assert without_time(record) == without_time(whole)


def test_a_diverging_training_says_what_to_lower(tmp_path: Path) -> None:
    known = stripes(24)
    with pytest.raises(InputError, match=r"lower learning_rate \(now 1e\+30"):
        train(small(), known, known, Recipe(epochs=2, batch_size=4, learning_rate=1e30), tmp_path)


def test_parameters_that_get_no_gradient_are_kept_as_they_are(tmp_path: Path) -> None:
    known, recipe = stripes(24), replace(TINY, epochs=2)

    def frozen() -> nn.Module:
        model = small()
        model.conv1.requires_grad_(requires_grad=False)
        return model

    def stop(_: dict[str, float]) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(frozen(), known, known, recipe, tmp_path, progress=stop)
    model = frozen()
    train(model, known, known, recipe, tmp_path)
    assert torch.equal(model.conv1.weight, small().conv1.weight)
    assert not torch.equal(model.fc.weight, small().fc.weight)
