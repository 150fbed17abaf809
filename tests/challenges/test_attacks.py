from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradiometer.challenges import apply_attack, attack_images, fgsm
from gradiometer.data import Images, to_unit
from gradiometer.errors import DependencyError, InputError, ModelError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 5)
    ).eval()


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return to_unit(images), torch.randint(0, 5, (count,), generator=generator)


def by_hand(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """The formula, one image at a time."""
    attacked = []
    for image, label in zip(images, labels, strict=True):
        x = image[None].clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(-model(x).log_softmax(1)[0, label], x)
        attacked.append((x.detach() + epsilon * gradient.sign()).clamp(0, 1))
    return torch.cat(attacked)


def test_fgsm_is_its_formula() -> None:
    model, (images, labels) = network(), batch()
    torch.testing.assert_close(fgsm(model, images, labels, 8 / 255), by_hand(model, images, labels, 8 / 255))


@given(epsilon=st.floats(0, 0.5))
def test_the_change_is_bounded_and_the_range_kept(epsilon: float) -> None:
    model, (images, labels) = network(), batch(4)
    attacked = fgsm(model, images, labels, epsilon)
    assert float((attacked - images).abs().max()) <= epsilon + 1e-6
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1


def test_epsilon_zero_changes_nothing() -> None:
    model, (images, labels) = network(), batch()
    assert torch.equal(fgsm(model, images, labels, 0.0), images)


def test_the_loss_rises() -> None:
    model, (images, labels) = network(), batch(40)
    with torch.no_grad():
        losses = [
            float(F.cross_entropy(model(fgsm(model, images, labels, e)), labels)) for e in (0.0, 2 / 255, 8 / 255)
        ]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def state(model: nn.Module) -> list[object]:
    return [
        {name: value.tolist() for name, value in model.state_dict().items()},
        [parameter.requires_grad for parameter in model.parameters()],
        [None if parameter.grad is None else parameter.grad.tolist() for parameter in model.parameters()],
        [module.training for module in model.modules()],
        [(len(module._forward_hooks), len(module._backward_hooks)) for module in model.modules()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    ]


def rude(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """An attack that leaves a mess: train mode, gradients, random numbers."""
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    F.cross_entropy(model(images), labels).backward()
    model.zero_grad()
    return (images + 0.01 * torch.rand_like(images)).clamp(0, 1)


def broken(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    rude(model, images, labels)
    raise RuntimeError("half-way")


@pytest.mark.parametrize("attack", [partial(fgsm, epsilon=0.1), rude, broken])
@pytest.mark.parametrize("gradients", [True, False])
def test_the_model_is_left_as_found(attack: object, gradients: bool) -> None:
    model, (images, labels) = network(), batch()
    F.cross_entropy(model(images), labels).backward()  # gradients of the user's own
    next(model.parameters()).requires_grad_(False)
    with torch.set_grad_enabled(gradients):
        before = state(model)
        if attack is broken:
            with pytest.raises(RuntimeError, match="half-way"):
                apply_attack(broken, model, images, labels)
        else:
            apply_attack(attack, model, images, labels, batch_size=5)  # type: ignore[arg-type]
        assert state(model) == before


def test_inference_mode_is_no_hindrance() -> None:
    model, (images, labels) = network(), batch()
    expected = fgsm(model, images, labels, 0.1)
    with torch.inference_mode():
        found = fgsm(model, images.clone(), labels.clone(), 0.1)
    assert torch.equal(found, expected)


def test_batches_make_no_difference() -> None:
    model, (images, labels) = network(), batch()
    whole = apply_attack(partial(fgsm, epsilon=0.1), model, images, labels, bound=0.1)
    parts = apply_attack(partial(fgsm, epsilon=0.1), model, images, labels, batch_size=5, bound=0.1)
    torch.testing.assert_close(parts, whole)


def test_random_attacks_are_seeded_and_vary_over_batches() -> None:
    model, (images, labels) = network(), batch()
    one, same, other = (apply_attack(rude, model, images, labels, batch_size=6, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    flat = torch.full_like(images, 0.5)
    attacked = apply_attack(rude, model, flat, labels, batch_size=6)
    assert not torch.equal(attacked[:6], attacked[6:])


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda m, x, y: x + 2, "returned pixels from 2"),
        (lambda m, x, y: x * float("nan"), "nan"),
        (lambda m, x, y: x[:, :, 1:], "turned images"),
        (lambda m, x, y: 1 - x, r"more than the bound 0\.1"),
    ],
)
def test_what_an_attack_returns_is_checked(attack: object, message: str) -> None:
    model, (images, labels) = network(), batch()
    with pytest.raises(InputError, match=message):
        apply_attack(attack, model, images, labels, bound=0.1)  # type: ignore[arg-type]


def test_attacked_images_keep_what_belongs_to_them() -> None:
    model, (pixels, labels) = network(), batch()
    images = Images.of(pixels.mul(255).round().to(torch.uint8), labels, name="x")
    attacked = attack_images(partial(fgsm, epsilon=8 / 255), model, images, batch_size=5, bound=8 / 255)
    assert attacked.names == images.names
    assert torch.equal(attacked.groups, images.groups)
    expected = by_hand(model, to_unit(images.images), labels, 8 / 255)
    torch.testing.assert_close(to_unit(attacked.images), expected)  # whole levels: storing in 8 bits loses nothing
    with pytest.raises(InputError, match="no labels"):
        attack_images(rude, model, Images.of(images.images))


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
        ({"epsilon": -0.1}, "got -0.1"),
        ({"epsilon": 8.0}, "got 8.0"),
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
