"""Published challenges in miniature, each in the folders into which its real archive unpacks."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_ood.dataset.img as published
import torchvision
from PIL import Image
from scipy.io import savemat

from gradiometer.data import load
from gradiometer.data.collections import COLLECTIONS
from gradiometer.errors import InputError

LAYOUTS = {
    "TinyImageNetCrop": "Imagenet/test/1.png",
    "TinyImageNetResize": "Imagenet_resize/Imagenet_resize/1.png",
    "LSUNCrop": "LSUN/test/1.png",
    "LSUNResize": "LSUN_resize/LSUN_resize/1.png",
    "iSUN": "iSUN/iSUN_patches/1.jpeg",
    "Textures": "dtd/images/banded/1.jpg",
    "Places365": "places365/a/1.jpg",
}


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (number * 40, 0, 255)).save(path, quality=95)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of each; those of two classes where there are classes."""
    for layout in LAYOUTS.values():
        for number in range(3):
            path = tmp_path / layout.replace("1.", f"{number}.")
            picture(path if number < 2 else Path(str(path).replace("banded", "woven")), number)
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No network; what was asked of it."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **settings: Any) -> None:
        asked.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def test_every_collection_has_a_layout_here() -> None:
    assert set(LAYOUTS) == set(COLLECTIONS)


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_it_is_read_where_its_archive_unpacks(root: Path, offline: list[Any], name: str) -> None:
    images = load(name, root=root)
    assert images.images.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(images.images[:, 0, 5, 5].numpy(), [0, 40, 80], atol=3)
    assert (images.classes == ("banded", "woven")) == (name == "Textures")
    assert (images.labels is None) == (name != "Textures")
    assert len(set(images.groups.tolist())) == 3
    assert not offline


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_an_archive_in_the_root_goes_first(root: Path, name: str) -> None:
    np.savez(root / f"{name}.npz", test_images=np.zeros((2, 4, 4, 3), np.uint8))
    assert load(name, root=root).images.shape == (2, 3, 4, 4)


@pytest.mark.parametrize("name", list(COLLECTIONS))
def test_nothing_is_fetched_unasked(tmp_path: Path, offline: list[Any], name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not in .*; unpack it there"):
        load(name, root=tmp_path)
    assert not offline
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name, entry in COLLECTIONS.items() if entry.fetched_by])
def test_pytorch_ood_fetches_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[tuple[str, bool]] = []

    class Fetching:
        def __init__(self, root: str, *, download: bool) -> None:
            asked.append((root, download))
            picture(Path(root) / LAYOUTS[name], 1)

    assert hasattr(published, COLLECTIONS[name].fetched_by)
    monkeypatch.setattr(published, COLLECTIONS[name].fetched_by, Fetching)
    assert len(load(name, root=tmp_path, download=True)) == 1
    assert len(load(name, root=tmp_path, download=True)) == 1  # it is there now
    assert asked == [(str(tmp_path), True)]


def test_the_folders_are_those_of_pytorch_ood() -> None:
    for name, entry in COLLECTIONS.items():
        if entry.fetched_by:
            assert getattr(published, entry.fetched_by).base_folder.rstrip("/") == entry.folders[0], name


def test_a_failed_fetch_says_so(tmp_path: Path, offline: list[Any]) -> None:
    with pytest.raises(InputError, match="LSUNResize could not be fetched into"):
        load("LSUNResize", root=tmp_path, download=True)
    assert offline


def test_what_nobody_fetches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody fetches this one"):
        load("iSUN", root=tmp_path, download=True)


def test_root_and_split(root: Path) -> None:
    with pytest.raises(InputError, match="Textures is read from a folder; say which one with root="):
        load("Textures")
    with pytest.raises(InputError, match="Textures has no split 'test'"):
        load("Textures", root=root, split="test")
    with pytest.raises(InputError, match=r"did you mean LSUNResize"):
        load("LSUNResise", root=root)


def test_any_folder_in_the_root_goes_by_its_name(root: Path) -> None:
    picture(root / "my_scenes" / "sea" / "a.png", 1)
    assert load("my_scenes", root=root).classes == ("sea",)


def test_svhn_is_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [3], [9]], np.uint8)})
    monkeypatch.setattr(
        torchvision.datasets.SVHN, "_check_integrity", lambda self: True
    )  # its checksum is the real one's
    images = load("SVHN", root=tmp_path, split="test")
    np.testing.assert_array_equal(images.images.permute(2, 3, 1, 0).numpy(), pixels)
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 3, 9]
