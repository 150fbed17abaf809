from __future__ import annotations

import torch
from torch import Tensor

from gradiometer.challenges.corruptions.draws import Draws


def test_numbers_belong_to_the_image(images: Tensor) -> None:
    whole, some = Draws(images, "a", 0), Draws(images[[4, 1]], "a", 0)
    for method, arguments in (("normal", (3, 2)), ("uniform", (5,)), ("uniform", ())):
        assert torch.equal(getattr(whole, method)(*arguments)[[4, 1]], getattr(some, method)(*arguments))
    assert torch.equal(whole.integers(0, 100, 7)[[4, 1]], some.integers(0, 100, 7))
    assert torch.equal(whole.poisson(10 * images)[[4, 1]], some.poisson(10 * images[[4, 1]]))


def test_numbers_do_not_depend_on_the_type(images: Tensor) -> None:
    single, double = Draws(images, "a", 0).normal(50), Draws(images.double(), "a", 0).normal(50)
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


def test_image_name_and_seed_give_other_numbers(images: Tensor) -> None:
    numbers = Draws(images, "a", 0).uniform(100)
    assert len({tuple(row) for row in numbers.tolist()}) == len(images)
    for other in (Draws(images, "b", 0), Draws(images, "a", 1)):
        assert not torch.isclose(other.uniform(100), numbers).any(dim=1).all()
    assert 0 <= float(numbers.min()) < 0.05
    assert 0.95 < float(numbers.max()) < 1


def test_the_global_generator_is_left_alone(images: Tensor) -> None:
    before = torch.get_rng_state()
    Draws(images, "a", 0).normal(3)
    assert torch.equal(torch.get_rng_state(), before)
