from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer.challenges import apply_attack, attack, attack_images, fgsm
from gradiometer.challenges.attacks import predict
from gradiometer.data import Images, to_unit
from gradiometer.errors import InputError, ModelError
from tests.challenges.attacks.networks import batch, fgsm_by_hand, network, trained


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


@pytest.mark.parametrize(
    "change", [partial(fgsm, epsilon=0.1), attack("pgd"), attack("carlini_wagner", steps=3), rude, broken]
)
@pytest.mark.parametrize("gradients", [True, False])
def test_the_model_is_left_as_found(change: object, gradients: bool) -> None:
    model, (images, labels) = network(), batch()
    F.cross_entropy(model(images), labels).backward()  # gradients of the user's own
    next(model.parameters()).requires_grad_(False)
    with torch.set_grad_enabled(gradients):
        before = state(model)
        if change is broken:
            with pytest.raises(RuntimeError, match="half-way"):
                apply_attack(broken, model, images, labels)
        else:
            apply_attack(change, model, images, labels, batch_size=5)  # type: ignore[arg-type]
        assert state(model) == before


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
    ("change", "message"),
    [
        (lambda m, x, y: x + 2, "returned pixels from 2"),
        (lambda m, x, y: x * float("nan"), "nan"),
        (lambda m, x, y: x[:, :, 1:], "turned images"),
        (lambda m, x, y: 1 - x, r"more than the bound 0\.1"),
    ],
)
def test_what_an_attack_returns_is_checked(change: object, message: str) -> None:
    model, (images, labels) = network(), batch()
    with pytest.raises(InputError, match=message):
        apply_attack(change, model, images, labels, bound=0.1)  # type: ignore[arg-type]


def test_attacked_images_keep_what_belongs_to_them() -> None:
    model, (pixels, labels) = network(), batch()
    images = Images.of(pixels.mul(255).round().to(torch.uint8), labels, name="x")
    attacked = attack_images(partial(fgsm, epsilon=8 / 255), model, images, batch_size=5, bound=8 / 255)
    assert attacked.names == images.names
    assert torch.equal(attacked.groups, images.groups)
    expected = fgsm_by_hand(model, to_unit(images.images), labels, 8 / 255)
    torch.testing.assert_close(to_unit(attacked.images), expected)  # whole levels: storing in 8 bits loses nothing


def test_without_labels_the_predicted_classes_are_led_away_from() -> None:
    model, digits = trained()
    pixels = to_unit(digits.images[:50])
    found = apply_attack(attack("fgsm"), model, pixels)
    torch.testing.assert_close(found, fgsm_by_hand(model, pixels, predict(model, pixels), 8 / 255))
    bare = Images.of(digits.images[:50])
    assert torch.equal(attack_images(attack("fgsm"), model, bare).images, found.mul(255).round().to(torch.uint8))


def test_labels_that_are_given_are_led_away_from() -> None:
    model, (pixels, labels) = network(), batch()
    images = Images.of(pixels.mul(255).round().to(torch.uint8), torch.zeros(12, dtype=torch.int64))
    found = attack_images(attack("fgsm"), model, images, labels=labels)
    torch.testing.assert_close(to_unit(found.images), fgsm_by_hand(model, pixels, labels, 8 / 255))
    with pytest.raises(InputError, match="12 images but 3 labels"):
        attack_images(attack("fgsm"), model, images, labels=labels[:3])


def test_eight_bits_are_an_option() -> None:
    model, (images, labels) = network(), batch()
    fine = apply_attack(attack("pgd", epsilon=0.1), model, images, labels)
    stored = apply_attack(attack("pgd", epsilon=0.1), model, images, labels, eight_bit=True)
    assert not torch.equal(fine, fine.mul(255).round().div(255))
    assert torch.equal(stored, fine.mul(255).round().div(255))


def test_an_attack_that_knows_its_bound_is_held_to_it() -> None:
    class Boasting:
        bound = 0.01

        def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, /) -> Tensor:
            return (images + 0.05).clamp(0, 1)

    model, (images, labels) = network(), batch()
    with pytest.raises(InputError, match=r"more than the bound 0\.01"):
        apply_attack(Boasting(), model, images, labels)
    apply_attack(Boasting(), model, images, labels, bound=0.1)


def test_predictions_are_those_of_the_model() -> None:
    model, (images, _) = network(), batch()
    with torch.no_grad():
        expected = model(images).argmax(dim=1)
    assert torch.equal(predict(model, images, batch_size=5), expected)
    with pytest.raises(ModelError, match=r"needs logits \(B, C\)"):
        predict(nn.Identity().eval(), images)


def test_progress_is_told_after_every_batch() -> None:
    model, (pixels, labels) = network(), batch()
    images = Images.of(pixels.mul(255).round().to(torch.uint8), labels)
    told: list[tuple[int, int]] = []
    attack_images(attack("fgsm"), model, images, batch_size=5, progress=lambda done, total: told.append((done, total)))
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_images_are_brought_to_where_the_model_is() -> None:
    """A device without numbers stands in for a graphics card: reaching it is all that can be seen."""
    model, (pixels, labels) = network(), batch()
    images = Images.of(pixels.mul(255).round().to(torch.uint8), labels)
    seen: list[str] = []

    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, device="meta"))

        def forward(self, found: Tensor) -> Tensor:
            seen.append(found.device.type)
            return torch.zeros(len(found), 2, device="cpu")

    assert predict(Elsewhere().eval(), pixels).device.type == "cpu"
    assert seen == ["meta"]
    assert attack_images(attack("fgsm"), model, images).images.device.type == "cpu"


def test_images_that_the_model_cannot_take_are_named() -> None:
    model, (images, labels) = network(), batch()
    wrong = torch.cat([images] * 2, 1)
    for way in (lambda: predict(model, wrong), lambda: fgsm(model, wrong, labels)):
        with pytest.raises(ModelError, match=r"fails on a batch of shape .*give images of the size and channels"):
            way()
