from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradiometer.challenges import letters, photographs, textures
from gradiometer.challenges.pictures import FONTS, LETTERS, PHOTOGRAPHS, TEXTURES
from gradiometer.data import Images, load, split
from gradiometer.errors import DependencyError, InputError

Draw = Callable[..., Images]
ALL = pytest.mark.parametrize("draw", [letters, photographs, textures])


@ALL
def test_shape_type_and_seed(draw: Draw) -> None:
    for size, channels in [(8, 1), (15, 3)]:
        one, same, other = (draw(size, 40, seed, channels) for seed in (1, 1, 2))
        assert one.images.shape == (40, channels, size, size)
        assert one.images.dtype == torch.uint8
        assert torch.equal(one.images, same.images)
        assert one.names == same.names
        assert not torch.equal(one.images, other.images)
        assert len(set(one.names)) == 40


@ALL
def test_nothing_is_fetched(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(draw(8, 9)) == 9


@ALL
def test_the_parts_of_a_split_share_no_base_picture(draw: Draw) -> None:
    parts = split(draw(8, 300), {"fit": 0.4, "calibrate": 0.1, "test": 0.5}, stratify=False)
    groups = [set(part.groups.tolist()) for part in parts.values()]
    assert sum(len(group) for group in groups) == len(set().union(*groups))


def test_letters_are_comparable_to_the_digits() -> None:
    drawn, digits = letters(8, 500), load("digits")
    mean, reference = (float(x.images.double().mean()) for x in (drawn, digits))
    assert 0.7 * reference < mean < 1.3 * reference
    assert float(drawn.images.amax((1, 2, 3)).double().median()) > 200  # white strokes
    assert float((drawn.images == 0).double().mean()) > 0.3  # on black
    # Anti-aliased, as the digits are: a good part of the pixels is neither black nor white.
    between = [float(((x.images > 20) & (x.images < 235)).double().mean()) for x in (drawn, digits)]
    assert between[0] > 0.5 * between[1]


def test_letters_are_balanced_and_labelled() -> None:
    drawn = letters(8, 2 * len(LETTERS) + 3)
    assert drawn.labels is not None
    counts = torch.bincount(drawn.labels, minlength=len(LETTERS))
    assert int(counts.min()) == 2
    assert int(counts.max()) == 3
    assert drawn.classes == tuple(LETTERS)
    for row, name in enumerate(drawn.names):
        letter, font = name.removeprefix("letter ").split("#")[0].split(" ")
        assert drawn.classes[int(drawn.labels[row])] == letter
        assert int(drawn.groups[row]) == LETTERS.index(letter) * len(FONTS) + FONTS.index(font)


def test_no_letter_looks_like_a_digit() -> None:
    assert not set(LETTERS) & set("OoQDIilJjZzSsGbBgq")
    assert len(set(LETTERS)) == len(LETTERS)


def test_a_letter_fills_the_image_and_is_not_cut_off() -> None:
    for image in letters(32, 60).images[:, 0]:
        rows, columns = (image > 60).any(1).nonzero().flatten(), (image > 60).any(0).nonzero().flatten()
        extent = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
        assert 26 <= extent <= 32


@pytest.mark.parametrize(("draw", "titles"), [(photographs, PHOTOGRAPHS), (textures, TEXTURES)])
def test_base_pictures_take_turns(draw: Draw, titles: tuple[str, ...]) -> None:
    drawn = draw(8, 2 * len(titles))
    assert drawn.labels is None
    assert drawn.groups.tolist() == 2 * list(range(len(titles)))
    assert [name.split("#")[0] for name in drawn.names] == 2 * list(titles)


def test_crops_are_pieces_of_the_pictures() -> None:
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    with Image.open(Path(spec.origin).parent / "data" / "brick.png") as picture:
        brick = np.asarray(picture.convert("L")).astype(float)
    # A texture as large as the picture can only be the whole picture.
    np.testing.assert_array_equal(textures(512, 1).images[0, 0].numpy(), brick)
    small = textures(8, 90).images[::3, 0].double()  # crops of brick
    assert float(small.mean()) == pytest.approx(brick.mean(), abs=8)
    assert float(small.std((1, 2)).mean()) > 2  # not averaged away


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (letters, (3, 10), "size must be at least 4 pixels, got 3"),
        (letters, (8, 0), "count must be at least 1, got 0"),
        (letters, (8, 1, 0, 2), "channels must be 1"),
        (photographs, (301, 1), "crops of 301 pixels .* the smallest picture has 300"),
        (textures, (513, 1), "smallest picture has 512"),
    ],
)
def test_bad_arguments(draw: Draw, arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(*arguments)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"come with skimage.*gradiometer\[report\]"):
        textures(8, 1)
