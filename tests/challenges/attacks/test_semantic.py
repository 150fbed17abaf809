from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradiometer.challenges import attack, attack_images, colour_shift, negative
from gradiometer.challenges.attacks import predict
from gradiometer.challenges.colour_space import to_hsv
from gradiometer.data import Images
from gradiometer.errors import InputError
from tests.challenges.attacks.networks import RedOrGreen, batch, coloured, network, trained


@pytest.fixture(scope="module")
def inked() -> tuple[Tensor, Tensor]:
    """Forty digits in red or green, and which."""
    _, digits = trained()
    return coloured(digits.select(range(40)))


def test_negative_twice_is_the_original() -> None:
    model = network()
    images = Images.of(torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8), [0, 1, 2, 3])
    once = attack_images(attack("negative"), model, images)
    assert torch.equal(once.images, 255 - images.images)
    assert torch.equal(attack_images(attack("negative"), model, once).images, images.images)


def test_negative_refuses_what_is_no_image() -> None:
    images, labels = batch()
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        negative(network(), 2 * images + 1, labels)


def test_a_colour_shift_fools_what_looks_at_colours_and_keeps_the_brightness(inked: tuple[Tensor, Tensor]) -> None:
    model, (images, labels) = RedOrGreen().eval(), inked
    assert torch.equal(predict(model, images), labels)
    shifted = colour_shift(model, images, labels)
    assert bool((predict(model, shifted) != labels).all())
    torch.testing.assert_close(to_hsv(shifted)[:, 2], to_hsv(images)[:, 2])
    assert not torch.equal(shifted, images)


def test_a_colour_shift_stops_at_the_first_success(inked: tuple[Tensor, Tensor]) -> None:
    model, (images, labels) = RedOrGreen().eval(), inked
    found = [colour_shift(model, images, labels, trials=1000), colour_shift(model, images, labels, trials=1000)]
    assert torch.equal(found[0], found[1])
    # The saturation may change by one part in a thousand for each trial that was needed; most need few.
    change = (to_hsv(found[0])[:, 1] - to_hsv(images)[:, 1]).abs().amax(dim=(1, 2))
    assert float(change.median()) < 0.02
    assert not torch.equal(colour_shift(model, images, labels, seed=1), found[0])


def test_a_colour_shift_does_not_depend_on_the_batch(inked: tuple[Tensor, Tensor]) -> None:
    model, (images, labels) = RedOrGreen().eval(), inked
    whole = colour_shift(model, images, labels, trials=50)
    assert torch.equal(colour_shift(model, images[[7, 3]], labels[[7, 3]], trials=50), whole[[7, 3]])


def test_an_image_that_nothing_fools_or_that_is_wrong_already_comes_back(inked: tuple[Tensor, Tensor]) -> None:
    model, (images, labels) = RedOrGreen().eval(), inked
    assert torch.equal(colour_shift(model, images, 1 - labels), images)
    white = torch.full((2, 3, 4, 4), 0.5)
    white[:, 0] += 0.4  # a plain red, and one trial that turns it by too little or too much
    once = colour_shift(model, white, torch.zeros(2, dtype=torch.int64), trials=1)
    fooled = predict(model, once) != 0
    assert torch.equal(once[~fooled], white[~fooled])


def test_bad_arguments() -> None:
    images, labels = batch()
    with pytest.raises(InputError, match="needs 3 channels, got 1"):
        colour_shift(network(), images, labels)
    with pytest.raises(InputError, match="trials is 0; give a whole number of 1"):
        colour_shift(RedOrGreen().eval(), torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), trials=0)
