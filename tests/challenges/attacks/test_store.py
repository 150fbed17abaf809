from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from gradiometer.challenges import attack, attack_images
from gradiometer.data import Images
from gradiometer.errors import ArtefactError, InputError
from tests.challenges.attacks.networks import batch, network


class Counting:
    """An attack that counts its batches, and can be interrupted."""

    def __init__(self, description: str = "counting", stop_after: int | None = None) -> None:
        self.description = description
        self.stop_after = stop_after
        self.batches = 0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, /) -> Tensor:
        if self.batches == self.stop_after:
            raise KeyboardInterrupt
        self.batches += 1
        return (images + 0.1 * torch.rand_like(images)).clamp(0, 1)


@pytest.fixture
def images() -> Images:
    pixels, labels = batch(20)
    return Images.of(pixels.mul(255).round().to(torch.uint8), labels)


def test_an_interrupted_run_goes_on_where_it_was(images: Images, tmp_path: Path) -> None:
    model = network()
    whole = attack_images(Counting(), model, images, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        attack_images(Counting(stop_after=2), model, images, batch_size=4, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    rest = Counting()
    resumed = attack_images(rest, model, images, batch_size=4, cache=tmp_path / "cache")
    assert rest.batches == 3
    assert torch.equal(resumed.images, whole.images)
    nothing = Counting()
    assert torch.equal(
        attack_images(nothing, model, images, batch_size=4, cache=tmp_path / "cache").images, whole.images
    )
    assert nothing.batches == 0


def test_whatever_the_result_depends_on_makes_another_entry(images: Images, tmp_path: Path) -> None:
    def made(change: Counting, model: nn.Module, images: Images, seed: int = 0) -> int:
        attack_images(change, model, images, batch_size=20, cache=tmp_path, seed=seed)
        return change.batches

    assert made(Counting(), network(), images) == 1
    assert made(Counting(), network(), images) == 0
    assert made(Counting("other settings"), network(), images) == 1
    assert made(Counting(), network(), images, seed=1) == 1
    other = network()
    with torch.no_grad():
        other[5].bias[0] += 1e-3
    assert made(Counting(), other, images) == 1
    other = network()
    other[2] = nn.ReLU().eval()  # the same weights
    assert made(Counting(), other, images) == 1
    pixels = images.images.clone()
    pixels[3, 0, 0, 0] ^= 1
    assert made(Counting(), network(), Images.of(pixels, images.labels)) == 1
    assert images.labels is not None
    assert made(Counting(), network(), Images.of(images.images, (images.labels + 1) % 5)) == 1
    assert made(Counting(), network(), images) == 0


@pytest.mark.parametrize("damage", ["truncate", "flip", "other", "empty"])
def test_a_broken_entry_is_made_again(images: Images, tmp_path: Path, damage: str) -> None:
    model = network()
    whole = attack_images(Counting(), model, images, batch_size=20, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    path.write_bytes({"truncate": data[:-7], "flip": data, "other": b"hello", "empty": b""}[damage])
    again = Counting()
    assert torch.equal(attack_images(again, model, images, batch_size=20, cache=tmp_path).images, whole.images)
    assert again.batches == 1
    assert attack_images(Counting(stop_after=0), model, images, batch_size=20, cache=tmp_path) is not None


def test_an_entry_says_what_it_is(images: Images, tmp_path: Path) -> None:
    attack_images(attack("fgsm"), network(), images, batch_size=20, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["gradiometer"])
        assert file.get_tensor("images").dtype == torch.uint8
    assert json.loads(header["attack"]) == {"attack": "fgsm", "epsilon": 8 / 255}
    assert header["seed"] == 0
    assert len(header["model"]) == 64


def test_an_attack_of_unknown_settings_needs_a_name(images: Images, tmp_path: Path) -> None:
    model = network()
    with pytest.raises(InputError, match=r"must know what the attack is.*name="):
        attack_images(lambda m, x, y: x, model, images, cache=tmp_path)
    attack_images(lambda m, x, y: x, model, images, cache=tmp_path, name="identity")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written(images: Images, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtefactError, match="choose another folder for the cache"):
        attack_images(Counting(), network(), images, cache=tmp_path / "file")


def test_two_runs_at_once_agree(images: Images, tmp_path: Path) -> None:
    found: list[Tensor] = []

    def run(model: nn.Module) -> None:
        found.append(attack_images(attack("bim"), model, images, batch_size=5, cache=tmp_path).images)

    # Made one after the other: both draw their weights from the same generator.
    threads = [threading.Thread(target=run, args=(model,)) for model in (network(), network())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(*found)
    assert len(list(tmp_path.iterdir())) == 4
