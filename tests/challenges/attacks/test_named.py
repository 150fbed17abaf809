from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
import torch

from gradiometer.challenges import ATTACKS, PURVIEW_SIX, apply_attack, attack, bim
from gradiometer.errors import InputError
from tests.challenges.attacks.networks import batch, network

# Worked out beforehand, in units of the pixel range.
DEFAULTS = {
    "fgsm": {"epsilon": 8 / 255},
    "bim": {"epsilon": 8 / 255, "step": 1 / 255, "steps": 10},
    "pgd": {"epsilon": 8 / 255, "step": 2 / 255, "steps": 20},
    "carlini_wagner": {"confidence": 0, "constant": 1, "searches": 1, "steps": 200, "rate": 0.01},
    "least_likely": {"epsilon": 8 / 255, "step": 1 / 255, "steps": 10},
    "negative": {},
    "colour_shift": {"trials": 1000, "seed": 0},
}


def test_the_defaults() -> None:
    assert {name: attack(name).settings for name in ATTACKS} == DEFAULTS


def test_every_function_takes_model_images_and_labels_first() -> None:
    for function in ATTACKS.values():
        assert list(inspect.signature(function).parameters)[:3] == ["model", "images", "labels"]


def test_a_name_and_settings_are_the_function() -> None:
    model, (images, labels) = network(), batch()
    found = apply_attack(attack("bim", steps=3), model, images, labels)
    assert torch.equal(found, bim(model, images, labels, steps=3))


def test_a_description_tells_settings_apart_and_is_json() -> None:
    described = [attack("bim"), attack("bim", steps=10), attack("bim", steps=11), attack("least_likely")]
    assert described[0].description == described[1].description
    assert len({one.description for one in described}) == 3
    assert json.loads(described[2].description) == {
        "attack": "bim",
        "epsilon": 8 / 255,
        "step": 1 / 255,
        "steps": 11,
    }


def test_only_bounded_attacks_have_a_bound() -> None:
    assert attack("pgd", epsilon=0.1).bound == 0.1
    assert attack("carlini_wagner").bound is None
    assert attack("negative").bound is None


def test_the_six_rows_of_the_lecture_are_there() -> None:
    assert list(PURVIEW_SIX) == ["FGSM", "BIM", "C&W", "PGD", "IterLL", "Semantic"]
    assert sorted(name for names in PURVIEW_SIX.values() for name in names) == sorted(ATTACKS)


def test_unknown_names_and_settings() -> None:
    with pytest.raises(InputError, match="unknown attack 'pgb'; did you mean pgd"):
        attack("pgb")
    with pytest.raises(InputError, match="unknown attack 'x'; there are fgsm, bim"):
        attack("x")
    with pytest.raises(InputError, match="bim has no setting 'eps'; its settings: epsilon, step, steps"):
        attack("bim", eps=1)
    with pytest.raises(InputError, match="negative has no setting 'epsilon'; its settings: none"):
        attack("negative", epsilon=1)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fgsm", {"epsilon": "4/255"}, "epsilon of the attack fgsm is '4/255'; give a number, such as 0.03137"),
        ("pgd", {"steps": 2.5}, "steps of the attack pgd is 2.5; give a whole number, such as 20"),
        ("pgd", {"steps": True}, "steps of the attack pgd is True"),
        ("colour_shift", {"trials": None}, "trials of the attack colour_shift is None"),
    ],
)
def test_settings_that_are_no_numbers(name: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(name, **settings)


def test_numbers_of_any_kind_are_settings() -> None:
    assert attack("pgd", epsilon=0, steps=np.int64(3)).settings["steps"] == 3
