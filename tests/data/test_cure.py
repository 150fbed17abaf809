"""CURE-TSR in miniature: BMP files of different sizes, in the folders and under the names of the real set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradiometer.data import load, split
from gradiometer.data.cure import CHALLENGES, SIGNS, CureName, parse_name
from gradiometer.errors import InputError

FOLDERS = {0: "ChallengeFree", 11: "Snow", 12: "Haze"}


@pytest.fixture
def cure(tmp_path: Path) -> Path:
    """Three signs of two types, in the training and the test part, free of challenge, in snow and in haze."""
    random = np.random.default_rng(0)
    folder = tmp_path / "CURE-TSR"
    for part in ("Real_Train", "Real_Test"):
        for challenge, title in FOLDERS.items():
            for level in (0,) if challenge == 0 else (1, 3):
                inside = folder / part / (title if level == 0 else f"{title}-{level}")
                inside.mkdir(parents=True)
                for sign, index in ((4, 1), (4, 2), (6, 1)):
                    pixels = random.integers(0, 256, (10 + index, 12, 3)).astype(np.uint8)
                    Image.fromarray(pixels).save(inside / f"01_{sign:02}_{challenge:02}_{level:02}_{index:04}.bmp")
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01_04_00_00_0001.bmp", CureName(1, 4, 0, 0, 1)),
        ("02_14_12_05_1234.BMP", CureName(2, 14, 12, 5, 1234)),
        ("01_01_08_03_12345.bmp", CureName(1, 1, 8, 3, 12345)),
        ("01_04_00_00_0001.png", None),
        ("1_4_0_0_1.bmp", None),
        ("03_04_00_00_0001.bmp", None),
        ("01_15_00_00_0001.bmp", None),
        ("01_00_00_00_0001.bmp", None),
        ("01_04_13_01_0001.bmp", None),
        ("01_04_12_06_0001.bmp", None),
        ("01_04_12_00_0001.bmp", None),  # a challenge has a level
        ("01_04_00_02_0001.bmp", None),  # and nothing else has
        ("x01_04_00_00_0001.bmp", None),
    ],
)
def test_names(name: str, expected: CureName | None) -> None:
    assert parse_name(name) == expected


def test_the_lists_are_those_of_the_data_set() -> None:
    assert len(SIGNS) == 14
    assert (SIGNS[0], SIGNS[3], SIGNS[5], SIGNS[13]) == ("speed limit", "no stopping", "stop", "parking")
    assert len(CHALLENGES) == 13
    assert (CHALLENGES[1], CHALLENGES[8], CHALLENGES[12]) == ("decolorization", "noise", "haze")


def test_a_folder_of_one_challenge(cure: Path) -> None:
    free = load(cure / "Real_Test" / "ChallengeFree", size=8)
    hazy = load(cure / "Real_Test" / "Haze-3", size=8)
    assert free.classes == SIGNS
    assert free.labels is not None
    assert hazy.labels is not None
    assert [SIGNS[label] for label in free.labels] == ["no stopping", "no stopping", "stop"]
    assert free.labels.tolist() == hazy.labels.tolist()
    assert len(set(free.groups.tolist())) == 3
    # The base images have the same numbers, whichever folder they were loaded from.
    assert free.groups.tolist() == hazy.groups.tolist()
    whole = load(cure / "Real_Test", size=8)
    assert set(whole.groups.tolist()) == set(free.groups.tolist())


def test_a_challenge_and_a_level_may_be_chosen_by_name(cure: Path) -> None:
    part = cure / "Real_Test"
    assert len(load(part, split="challenge_free", size=8)) == 3
    assert len(load(part, split="haze", size=8)) == 6
    chosen = load(part, split="haze_3", size=8)
    assert {Path(name).parent.name for name in chosen.names} == {"Haze-3"}
    assert load(part, split="Haze-3", size=8).names == chosen.names
    assert load(cure, split="Real_Test", size=8).names == load(part, size=8).names
    assert load("CURE-TSR/Real_Test", root=cure.parent, split="haze_3", size=8).names == chosen.names


def test_training_and_test_images_of_one_number_are_different_signs(cure: Path) -> None:
    train, test = (load(cure / part, size=8) for part in ("Real_Train", "Real_Test"))
    assert not set(train.groups.tolist()) & set(test.groups.tolist())
    alone = load(cure / "Real_Train" / "Haze-1", size=8)
    assert set(alone.groups.tolist()) <= set(train.groups.tolist())


def test_a_split_keeps_the_challenges_of_a_sign_together(cure: Path) -> None:
    images = load(cure / "Real_Test", size=8)
    parts = split(images, {"one": 0.5, "other": 0.5}, stratify=False)
    assert not set(parts["one"].groups.tolist()) & set(parts["other"].groups.tolist())
    assert len(parts["one"]) + len(parts["other"]) == len(images)


def test_other_files_are_passed_over(cure: Path) -> None:
    folder = cure / "Real_Test" / "ChallengeFree"
    Image.new("RGB", (9, 9)).save(folder / "thumbnail.bmp")
    (folder / "notes.txt").write_text("x")
    assert len(load(folder, size=8)) == 3


def test_what_is_not_there(cure: Path) -> None:
    with pytest.raises(
        InputError, match=r"no split 'fog'; choose a sub-folder, or one of challenge_free, decolorization"
    ):
        load(cure / "Real_Test", split="fog")
    with pytest.raises(InputError, match="no split 'haze_6'"):
        load(cure / "Real_Test", split="haze_6")
    with pytest.raises(InputError, match="holds no images of rain_2"):
        load(cure / "Real_Test", split="rain_2")
