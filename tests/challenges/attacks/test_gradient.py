from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradiometer.challenges import apply_attack, attack, attack_images, bim, carlini_wagner, fgsm, least_likely, pgd
from gradiometer.challenges.attacks import predict
from gradiometer.data import to_unit
from gradiometer.errors import DependencyError, InputError, ModelError
from tests.challenges.attacks.networks import batch, fgsm_by_hand, network, trained

BOUNDED = pytest.mark.parametrize("method", [fgsm, bim, pgd, least_likely])
Method = Callable[..., Tensor]


def test_fgsm_is_its_formula() -> None:
    model, (images, labels) = network(), batch()
    torch.testing.assert_close(fgsm(model, images, labels, 8 / 255), fgsm_by_hand(model, images, labels, 8 / 255))


@BOUNDED
@given(epsilon=st.floats(0, 0.5))
def test_the_change_is_bounded_and_the_range_kept(method: Method, epsilon: float) -> None:
    model, (images, labels) = network(), batch(4)
    attacked = method(model, images, labels, epsilon)
    assert float((attacked - images).abs().max()) <= epsilon + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1


@BOUNDED
def test_epsilon_zero_changes_nothing(method: Method) -> None:
    model, (images, labels) = network(), batch()
    assert torch.equal(method(model, images, labels, 0.0), images)


def test_the_loss_rises() -> None:
    model, (images, labels) = network(), batch(40)
    with torch.no_grad():
        losses = [
            float(F.cross_entropy(model(fgsm(model, images, labels, e)), labels)) for e in (0.0, 2 / 255, 8 / 255)
        ]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def test_inference_mode_is_no_hindrance() -> None:
    model, (images, labels) = network(), batch()
    expected = fgsm(model, images, labels, 0.1)
    with torch.inference_mode():
        found = fgsm(model, images.clone(), labels.clone(), 0.1)
    assert torch.equal(found, expected)


def test_train_mode_is_refused() -> None:
    model, (images, labels) = network(), batch()
    model[1].train()
    with pytest.raises(ModelError, match=r"1 modules are in train mode, the first is 1.*eval\(\)"):
        fgsm(model, images, labels, 0.1)


def test_outputs_that_are_no_logits() -> None:
    images, labels = batch()
    with pytest.raises(ModelError, match=r"needs logits \(B, C\), but the model returns \(12, 1, 8, 8\)"):
        fgsm(nn.Identity().eval(), images, labels, 0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon is -0.1; give a number from 0 to 1"),
        ({"epsilon": 8.0}, "epsilon is 8.0.*8/255"),
        ({"labels": torch.zeros(12)}, "labels must be int64"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"shape \(12,\)"),
        ({"labels": torch.full((12,), 9)}, "a label is 9, but the model knows the classes 0 to 4"),
        ({"labels": torch.full((12,), -1)}, "one is -1"),
        ({"images": torch.full((12, 1, 8, 8), 3.0)}, r"must lie in \[0, 1\]"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    images, labels = batch()
    with pytest.raises(InputError, match=message):
        fgsm(**{"model": network(), "images": images, "labels": labels, "epsilon": 0.1, **change})  # type: ignore[arg-type]


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "foolbox"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "foolbox", None)
    images, labels = batch()
    with pytest.raises(DependencyError, match=r"gradiometer\[attacks\]"):
        fgsm(network(), images, labels, 0.1)


def test_bim_is_its_formula() -> None:
    model, (images, labels) = network(), batch()
    expected = images
    for _ in range(10):
        stepped = fgsm_by_hand(model, expected, labels, 1 / 255)
        expected = torch.minimum(torch.maximum(stepped, images - 4 / 255), images + 4 / 255).clamp(0, 1)
    torch.testing.assert_close(bim(model, images, labels, 4 / 255), expected)


def test_pgd_starts_anywhere_in_the_ball_and_is_seeded() -> None:
    model, (images, labels) = network(), batch()
    hardly = attack("pgd", step=1e-9, steps=1)
    starts = [apply_attack(hardly, model, images, labels, seed=seed) - images for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    inside = starts[0][(images > 0.1) & (images < 0.9)]  # where nothing is cut off
    assert 0.4 * 16 / 255 < float(inside.max() - inside.min()) <= 16 / 255 + 1e-6
    assert float(inside.std()) == pytest.approx(8 / 255 / 3**0.5, rel=0.05)


def test_the_least_likely_class_gets_more_likely() -> None:
    model, digits = trained()
    images = to_unit(digits.images)
    with torch.no_grad():
        before = model(images).softmax(dim=1)
        least = before.argmin(dim=1)
        after = model(least_likely(model, images, predict(model, images))).softmax(dim=1)
    rows = torch.arange(len(images))
    assert bool((after[rows, least] > before[rows, least]).all())


def test_the_least_likely_class_is_chosen_once() -> None:
    """Against a walk of steps towards the class that was least likely in the original, image by image."""
    model, (images, labels) = network(), batch(6)
    with torch.no_grad():
        targets = model(images).argmin(dim=1)
    expected = images
    for _ in range(10):
        stepped = 2 * expected - fgsm_by_hand(model, expected, targets, 1 / 255)  # down instead of up
        expected = torch.minimum(torch.maximum(stepped, images - 8 / 255), images + 8 / 255).clamp(0, 1)
    inside = (images > 0.05) & (images < 0.95)  # by_hand cuts off on the other side
    torch.testing.assert_close(least_likely(model, images, labels)[inside], expected[inside], atol=1e-4, rtol=0)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((predict(model, images) == labels).double().mean())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fgsm", {"epsilon": 0.2}),
        ("bim", {"epsilon": 0.2, "step": 0.03}),
        ("pgd", {"epsilon": 0.2, "step": 0.03}),
        ("least_likely", {"epsilon": 0.4, "step": 0.05}),
        ("carlini_wagner", {}),
    ],
)
def test_a_trained_network_gets_worse(name: str, settings: dict[str, float]) -> None:
    model, digits = trained()
    assert digits.labels is not None
    before = accuracy(model, to_unit(digits.images), digits.labels)
    found = attack_images(attack(name, **settings), model, digits)
    assert before > 0.9
    assert accuracy(model, to_unit(found.images), digits.labels) < before - 0.3


def test_carlini_and_wagner_need_less_than_fgsm() -> None:
    model, digits = trained()
    assert digits.labels is not None
    images, labels = to_unit(digits.images), digits.labels
    fast, small = fgsm(model, images, labels, 0.25), carlini_wagner(model, images, labels)
    both = (predict(model, fast) != labels) & (predict(model, small) != labels) & (predict(model, images) == labels)
    assert int(both.sum()) > 50
    lengths = [(found - images).flatten(1).norm(dim=1)[both] for found in (fast, small)]
    assert bool((lengths[1] < lengths[0]).all())


def test_more_searches_need_less_still() -> None:
    model, digits = trained()
    assert digits.labels is not None
    images, labels = to_unit(digits.images[:40]), digits.labels[:40]
    found = [carlini_wagner(model, images, labels, searches=searches, steps=100) for searches in (1, 4)]
    lengths = [(attacked - images).flatten(1).norm(dim=1) for attacked in found]
    wrong = [predict(model, attacked) != labels for attacked in found]
    assert int(wrong[1].sum()) >= int(wrong[0].sum())
    assert bool((lengths[1] <= lengths[0] + 1e-6)[wrong[0]].all())


def test_an_image_for_which_nothing_is_found_comes_back() -> None:
    class Stubborn(nn.Module):
        """Class 0, whatever comes."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images.sum(dim=(1, 2, 3)) * 0 + 5, images.sum(dim=(1, 2, 3)) * 0], dim=1)

    images, _ = batch(3)
    labels = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(carlini_wagner(Stubborn().eval(), images, labels, steps=3), images)


def test_carlini_and_wagner_look_at_each_image_alone() -> None:
    model, digits = trained()
    assert digits.labels is not None
    images, labels = to_unit(digits.images[:8]), digits.labels[:8]
    whole = carlini_wagner(model, images, labels, steps=50)
    alone = torch.cat(
        [carlini_wagner(model, images[row : row + 1], labels[row : row + 1], steps=50) for row in range(8)]
    )
    torch.testing.assert_close(alone, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (bim, {"steps": 0}, "steps is 0; give a whole number of 1"),
        (pgd, {"step": 2.0}, "step is 2.0; give a number from 0 to 1"),
        (least_likely, {"epsilon": -1.0}, "epsilon is -1.0; give a number from 0 to 1"),
        (carlini_wagner, {"constant": 0.0}, "constant must be above 0"),
        (carlini_wagner, {"searches": 0}, "searches must be above 0"),
        (carlini_wagner, {"confidence": -1.0}, "confidence is -1.0; give a margin of 0"),
    ],
)
def test_bad_settings(method: Method, settings: dict[str, float], message: str) -> None:
    images, labels = batch()
    with pytest.raises(InputError, match=message):
        method(network(), images, labels, **settings)
