from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gradiometer.data import Images, load, save
from gradiometer.errors import InputError


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [None, [2, 0, 0, 1]])
def test_what_is_saved_is_loaded(tmp_path: Path, channels: int, labels: list[int] | None) -> None:
    pixels = torch.randint(0, 256, (4, channels, 5, 6), dtype=torch.uint8)
    classes = () if labels is None else ("a", "b", "c", "d")
    images = replace(Images.of(pixels, labels, classes=classes), groups=torch.tensor([7, 7, 2**40, 1]))
    save(images, tmp_path / "few.npz")
    again = load(tmp_path / "few.npz")
    assert torch.equal(again.images, pixels)
    assert torch.equal(again.groups, images.groups)
    assert again.classes == classes
    assert (again.labels is None) == (labels is None)
    if labels is not None:
        assert again.labels is not None
        assert again.labels.tolist() == labels
    assert [path.name for path in tmp_path.iterdir()] == ["few.npz"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "few.npz"
    save(Images.of(torch.zeros(2, 1, 3, 3, dtype=torch.uint8)), path)
    before = path.read_bytes()

    def full(self: Path, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"could not write .*few.npz \(No space left on device\)"):
        save(Images.of(torch.ones(2, 1, 3, 3, dtype=torch.uint8)), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_bad_paths(tmp_path: Path) -> None:
    images = Images.of(torch.zeros(2, 1, 3, 3, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"written to \.npz, got few\.png"):
        save(images, tmp_path / "few.png")
    with pytest.raises(InputError, match="could not write"):
        save(images, tmp_path / "nowhere" / "few.npz")
