"""What the auto-encoder sees: tiles that cover a scan, contrast without brightness, sizes and channels of Pillow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gradiometer.data import Images
from gradiometer.errors import InputError
from gradiometer.severity import Preparation


def noise(*shape: int, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.randint(low, high, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(st.integers(4, 60), st.integers(4, 60), st.integers(1, 20))
@settings(max_examples=60)
def test_tiles_cover_the_scan_and_make_it_again(height: int, width: int, tile: int) -> None:
    tile = min(tile, height, width)
    preparation = Preparation(channels=1, tile=tile)
    scans = noise(2, 1, height, width)
    tiles = preparation.apply(scans)
    assert tiles.shape[1:] == (len(preparation.places(height, width)), 1, tile, tile)
    assert tiles.shape[1] == -(-height // tile) * -(-width // tile)
    again = preparation.whole(tiles[:, :, 0].numpy().astype(float), height, width)
    assert (again == scans[:, 0].numpy()).all()


def test_whole_scans_are_left_as_they_are() -> None:
    scans = noise(3, 3, 9, 7)
    assert torch.equal(Preparation().apply(scans), scans.unsqueeze(1))
    assert torch.equal(Preparation().apply(scans / 255), scans.unsqueeze(1))
    assert Preparation().whole(np.ones((3, 1, 9, 7)), 9, 7).shape == (3, 9, 7)


@pytest.mark.parametrize("contrast", ["standard", "local"])
def test_brightness_contrast_and_cast_are_taken_away(contrast: str) -> None:
    preparation = Preparation(contrast=contrast)  # type: ignore[arg-type]
    scans = noise(2, 3, 24, 24, low=50, high=150).double()
    gains, lifts = torch.tensor([0.5, 1.0, 1.4]).view(1, 3, 1, 1), torch.tensor([60.0, 0.0, -20.0]).view(1, 3, 1, 1)
    first, second = (preparation.apply((one / 255).clamp(0, 1)) for one in (scans, gains * scans + lifts))
    assert (first.int() - second.int()).abs().max() <= 2  # bytes of a flatter scan are coarser
    unit = first.double() / 255
    assert torch.allclose(unit.mean((3, 4)), torch.tensor(0.5).double(), atol=0.01)
    assert torch.allclose(unit.std((3, 4)), torch.tensor(0.15).double(), atol=0.01)


def test_local_takes_a_slow_change_away_that_standard_leaves() -> None:
    ramp = torch.linspace(0, 155, 40).round().to(torch.uint8).expand(1, 1, 40, 40)
    texture = noise(1, 1, 40, 40, low=0, high=100)
    standard, local = (
        Preparation(channels=1, contrast=one).apply(ramp + texture).double()[0, 0, 0] / 255  # type: ignore[arg-type]
        for one in ("standard", "local")
    )
    slope = [float(one[:, 30:].mean() - one[:, :10].mean()) for one in (standard, local)]
    assert slope[0] > 0.2
    assert abs(slope[1]) < 0.05


@pytest.mark.parametrize("contrast", ["standard", "local"])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_scan_without_contrast_is_refused_by_name(contrast: str, level: int) -> None:
    preparation = Preparation(contrast=contrast)  # type: ignore[arg-type]
    scans = noise(3, 3, 8, 8)
    scans[1] = level
    for given_, said in (
        (replace(Images.of(scans), names=("a.png", "b.png", "c.png")), r"b\.png has no contrast.*leave it out"),
        (scans, "scan 1 has no contrast"),
        (scans[1:2], "the scan has no contrast"),
    ):
        with pytest.raises(InputError, match=said):
            preparation.apply(given_)
    assert torch.equal(Preparation().apply(scans), scans.unsqueeze(1))


@pytest.mark.parametrize("contrast", ["as-is", "standard", "local"])
def test_blank_scans_are_those_that_are_refused(contrast: str) -> None:
    preparation = Preparation(contrast=contrast, size=(6, 6))  # type: ignore[arg-type]
    scans = noise(300, 3, 8, 8)
    scans[[2, 299]] = 77
    scans[5, 1:] = 0  # one channel has a picture
    expected = [] if contrast == "as-is" else [2, 299]
    assert np.flatnonzero(preparation.blank(scans)).tolist() == expected
    for row, said in enumerate(preparation.blank(scans[:6])):
        if said:
            with pytest.raises(InputError, match="no contrast"):
                preparation.apply(scans[row : row + 1])
        else:
            preparation.apply(scans[row : row + 1])


def test_a_channel_without_contrast_stays_without() -> None:
    scan = noise(1, 3, 8, 8)
    scan[:, 2] = 77
    found = Preparation(contrast="standard").apply(scan)
    assert found[0, 0, 2].unique().tolist() == [128]
    assert len(found[0, 0, 0].unique()) > 10


def test_size_and_channels_are_those_of_pillow() -> None:
    scans = noise(2, 3, 20, 30)
    found = Preparation(channels=1, size=(10, 12)).apply(scans)
    for scan, one in zip(scans, found, strict=True):
        image = Image.fromarray(scan.permute(1, 2, 0).numpy()).convert("L").resize((12, 10), Image.Resampling.BICUBIC)
        assert (one[0, 0].numpy() == np.asarray(image)).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"channels": 2}, "channels is 2"),
        ({"tile": 0}, "tile is 0"),
        ({"size": (0, 4)}, "size is"),
        ({"contrast": "much"}, "contrast must be one of as-is, standard, local"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preparation(**setting)


@pytest.mark.parametrize(
    ("scans", "message"),
    [
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "a scan of 8 pixels is smaller than a tile of 9"),
        (torch.zeros(1, 2, 9, 9, dtype=torch.uint8), "1 or 3 channels"),
        (torch.zeros(9, 9, dtype=torch.uint8), r"got shape \(9, 9\)"),
        (torch.zeros(0, 1, 9, 9, dtype=torch.uint8), r"got shape \(0, 1, 9, 9\)"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.int64), "uint8, or floating point"),
        (torch.full((1, 1, 9, 9), torch.nan), "finite and in"),
        (torch.full((1, 1, 9, 9), 255.0), "divide by the largest"),
    ],
)
def test_what_is_no_scan_is_refused(scans: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preparation(channels=1, tile=9).apply(scans)
