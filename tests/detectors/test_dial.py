"""The dial against detectors that really read a subset of the parameters alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gradiometer.challenges import Corruption
from gradiometer.detectors import Control, Dial, Purview, dial
from gradiometer.detectors.dialling import corrupted, shortest, suffixes
from gradiometer.errors import InputError, ModelError
from tests.detectors.conftest import Digits

SUBSETS = (("10.*",), ("8.*", "10.*"), ("3.*", "4.*", "8.*", "10.*"))


def by_depth(globs: Sequence[str]) -> float:
    """A made-up cost that grows with the depth of the subset."""
    return 1.0 + len(globs) if "*" not in globs else 10.0


@pytest.fixture
def found(model: nn.Module, digits: Digits, noisy: Tensor) -> Dial:
    return dial(
        model, digits.fit, digits.held_out, challenges={"noise": noisy}, subsets=SUBSETS, cost=by_depth, loss=0.05
    )


def test_each_subset_is_judged_as_a_detector_that_reads_it_alone(
    found: Dial, model: nn.Module, digits: Digits, noisy: Tensor
) -> None:
    truth = np.repeat([0, 1], [len(digits.held_out[0]), len(noisy)])
    for setting in found.settings:
        detector = Purview(model, parameters=list(setting.parameters)).fit(digits.fit)
        scores = torch.cat([detector.predict(digits.held_out[0]), detector.predict(noisy)])
        assert setting.aurocs["noise"] == pytest.approx(roc_auc_score(truth, scores), abs=2e-4)
        assert setting.auroc == pytest.approx(setting.aurocs["noise"])
    control = Control(model).fit(digits.fit)
    scores = torch.cat([control.predict(digits.held_out[0]), control.predict(noisy)])
    assert found.control.auroc == pytest.approx(roc_auc_score(truth, scores), abs=2e-4)


def test_the_cheapest_within_the_loss_is_chosen(model: nn.Module, digits: Digits, noisy: Tensor, found: Dial) -> None:
    assert [setting.tensors for setting in found.settings] == [2, 4, 8, 12]
    assert found.full.parameters == ("*",)
    enough = [setting for setting in found.settings if setting.auroc >= found.full.auroc - found.loss]
    assert found.chosen.cost == min(setting.cost for setting in enough)
    anything = dial(
        model, digits.fit, digits.held_out, challenges={"noise": noisy}, subsets=SUBSETS, cost=by_depth, loss=1.0
    )
    assert anything.chosen.parameters == ("10.*",)
    assert anything.chosen.auroc < found.full.auroc


def test_the_curve_is_a_table_and_json(found: Dial) -> None:
    curve = json.loads(json.dumps(found.to_dict()))
    assert [tuple(setting["parameters"]) for setting in curve["settings"]] == [s.parameters for s in found.settings]
    assert curve["chosen"]["aurocs"] == found.chosen.aurocs
    lines = str(found).splitlines()
    assert len(lines) == len(found.settings) + 2
    assert [line.startswith("* ") for line in lines[2:]] == [setting is found.chosen for setting in found.settings]


def test_without_challenges_held_out_images_are_corrupted(model: nn.Module, digits: Digits) -> None:
    """The same as with these corruptions given by name, read with a measured cost."""
    few = digits.held_out[0][:40]
    made = corrupted(few, batch_size=16)
    torch.testing.assert_close(made["contrast 3"], Corruption("contrast", 3)(few))
    known = digits.fit[0][:120]
    alone = dial(model, known, few, subsets=[["10.*"]], batch_size=40)
    given = dial(model, known, few, challenges=made, subsets=[["10.*"]], cost=by_depth, batch_size=40)
    assert [setting.aurocs for setting in alone.settings] == [setting.aurocs for setting in given.settings]
    assert all(setting.cost > 0 for setting in (alone.control, *alone.settings))


def test_held_out_images_may_come_only_once(model: nn.Module, digits: Digits) -> None:
    known, few = digits.fit[0][:120], digits.held_out[0][:40]
    once = dial(model, known, (part for part in few.split(15)), subsets=[["10.*"]], batch_size=40)
    again = dial(model, known, few, subsets=[["10.*"]], cost=by_depth, batch_size=40)
    assert [setting.aurocs for setting in once.settings] == [setting.aurocs for setting in again.settings]


def test_suffixes_are_nested_and_end_before_everything(model: nn.Module) -> None:
    globs = suffixes(model, 3)
    assert globs[0] == ("10.*",)
    names = [name for name, _ in model.named_parameters()]
    chosen = [{name for name in names if name.split(".")[0] in {g.split(".")[0] for g in each}} for each in globs]
    assert all(small < large for small, large in pairwise(chosen))
    assert len(chosen[-1]) < len(names)


def test_globs_are_as_few_as_say_it() -> None:
    names = ["stem.weight", "body.0.a.weight", "body.0.a.bias", "body.0.b.weight", "body.1.weight", "head"]
    assert shortest(names, names) == ("*",)
    assert shortest(names[1:], names) == ("body.*", "head")
    assert shortest(names[3:], names) == ("body.0.b.*", "body.1.*", "head")
    assert shortest(names[2:3], names) == ("body.0.a.bias",)


def test_held_out_images_are_not_the_known_ones(model: nn.Module, digits: Digits, noisy: Tensor) -> None:
    images = digits.fit[0]
    with pytest.raises(InputError, match=r"100 of 100 held-out images .* also fitted on, so the AUROC would not hold"):
        dial(model, images, images[:100])
    mixed = torch.cat([digits.held_out[0][:99], images[5:6]])
    with pytest.warns(UserWarning, match="1 of 100 held-out images .*the AUROC may be slightly off"):
        dial(model, images, mixed, challenges={"noise": noisy}, subsets=[["10.*"]], cost=by_depth)


def test_wrong_arguments(model: nn.Module, digits: Digits, noisy: Tensor) -> None:
    images = digits.fit[0]
    with pytest.raises(InputError, match=r"loss is 1\.5"):
        dial(model, images, images, loss=1.5)
    with pytest.raises(InputError, match="no challenges"):
        dial(model, images, images, challenges={})
    with pytest.raises(InputError, match="matches none"):
        dial(model, images, noisy, challenges={"noise": noisy}, subsets=[["nothing.*"]], cost=by_depth)
    with pytest.raises(InputError, match="cannot be corrupted"):
        corrupted(torch.rand(5, 4))
    with pytest.raises(ModelError, match="train mode"):
        dial(nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(64, 3)), images, images)
