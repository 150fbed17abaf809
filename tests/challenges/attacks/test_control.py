from __future__ import annotations

import pytest
import torch

from gradiometer.challenges import (
    attack,
    attack_images,
    attacked_set,
    lee_deviation,
    matched_deviation,
    noise_control,
)
from gradiometer.challenges.attacks import predict
from gradiometer.data import Images, to_unit
from gradiometer.errors import InputError
from tests.challenges.attacks.networks import trained


def grey(count: int = 4, channels: int = 3) -> Images:
    pixels = torch.full((count, channels, 60, 60), 128, dtype=torch.uint8)
    pixels[:, :, 0, 0] = torch.arange(count, dtype=torch.uint8).view(-1, 1)  # different images, different noise
    return Images.of(pixels, [0] * count)


def test_the_noise_has_its_deviation_in_each_channel() -> None:
    images = grey()
    noise = to_unit(noise_control(images, (0.02, 0.05, 0.1)).images) - to_unit(images.images)
    for channel, deviation in enumerate((0.02, 0.05, 0.1)):
        assert float(noise[:, channel, 1:].std()) == pytest.approx(deviation, rel=0.03)
        assert abs(float(noise[:, channel, 1:].mean())) < 0.02 * deviation + 1e-3


def test_the_noise_belongs_to_the_image() -> None:
    images = grey()
    whole = noise_control(images, 0.05)
    assert torch.equal(noise_control(images.select([2, 1]), 0.05).images, whole.images[[2, 1]])
    assert torch.equal(noise_control(images, 0.0).images, images.images)
    assert not torch.equal(noise_control(images, 0.05, seed=1).images, whole.images)
    assert whole.names == images.names


def test_noise_of_the_matched_deviation_changes_images_as_much_as_the_attack() -> None:
    model, digits = trained()
    attacked = attack_images(attack("fgsm", epsilon=32 / 255), model, digits)
    deviation = matched_deviation(digits, attacked)
    difference = (attacked.images.double() - digits.images.double()) / 255
    assert deviation == pytest.approx(float(difference.square().mean().sqrt()))
    grid = grey(channels=1)
    shifted = Images.of((grid.images.int() + 10).to(torch.uint8), [0] * 4)
    assert matched_deviation(grid, shifted) == pytest.approx(10 / 255)
    noise = to_unit(noise_control(grid, 10 / 255).images) - to_unit(grid.images)
    assert float(noise.square().mean().sqrt()) == pytest.approx(10 / 255, rel=0.03)


def test_published_deviations_are_scaled_by_the_normalisation() -> None:
    # Lee et al.: 0.0625 for FGSM on ResNet-34 and CIFAR-10, which is divided by (0.2023, 0.1994, 0.2010).
    assert lee_deviation("resnet34-cifar10", "fgsm", (0.2023, 0.1994, 0.2010)) == pytest.approx(
        (0.01264375, 0.0124625, 0.0125625)
    )
    assert lee_deviation("densenet-svhn", "carlini_wagner", (1.0,)) == (0.035,)
    with pytest.raises(InputError, match="'vgg'; there are resnet34-cifar10"):
        lee_deviation("vgg", "fgsm", (1.0,))
    with pytest.raises(InputError, match="'pgd'; there are fgsm, bim, deepfool, carlini_wagner"):
        lee_deviation("resnet34-cifar10", "pgd", (1.0,))


def test_the_rule_keeps_what_was_right_stays_right_in_noise_and_is_fooled() -> None:
    model, digits = trained()
    assert digits.labels is not None
    attacked = attack_images(attack("fgsm", epsilon=40 / 255), model, digits)
    found = attacked_set(model, digits, attacked)
    deviation = matched_deviation(digits, attacked)
    assert found.deviation == (pytest.approx(deviation),)
    noisy = noise_control(digits, deviation)
    right = [predict(model, to_unit(images.images)) == digits.labels for images in (digits, noisy, attacked)]
    expected = right[0] & right[1] & ~right[2]
    assert found.counts == {
        "all": len(digits),
        "clean right": int(right[0].sum()),
        "noisy right": int(right[1].sum()),
        "attacked wrong": int((~right[2]).sum()),
        "kept": int(expected.sum()),
    }
    assert 0 < found.counts["kept"] < len(digits)
    for mine, whole in ((found.clean, digits), (found.noisy, noisy), (found.attacked, attacked)):
        assert torch.equal(mine.images, whole.images[expected])
        assert torch.equal(mine.groups, digits.groups[expected])


def test_all_rows_can_be_kept_and_a_deviation_given() -> None:
    model, digits = trained()
    attacked = attack_images(attack("fgsm"), model, digits)
    found = attacked_set(model, digits, attacked, deviation=0.0, keep_all=True)
    assert torch.equal(found.noisy.images, digits.images)
    assert len(found.attacked) == len(digits)
    assert found.deviation == (0.0,)


def test_bad_arguments() -> None:
    model, digits = trained()
    attacked = attack_images(attack("fgsm"), model, digits)
    with pytest.raises(InputError, match="no row is left by the rule"):
        attacked_set(model, digits, digits)
    with pytest.raises(InputError, match="row by row"):
        attacked_set(model, digits, attacked.select([0, 1]))
    with pytest.raises(InputError, match="have no labels"):
        attacked_set(model, Images.of(digits.images), attacked)
    with pytest.raises(InputError, match="2 deviations for images of 1 channels"):
        noise_control(digits, (0.1, 0.2))
    with pytest.raises(InputError, match="at least 0, got -1"):
        noise_control(digits, -1)
