"""Several labels sent back at once give what each of them gives alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradiometer.gradients import ContrastClasses, Gradiometer, meter, passes
from gradiometer.gradients.reader import Reader
from gradiometer.gradients.stacked import Labels, again, send_back
from gradiometer.models.resnet import resnet20
from tests.zoo import ZOO, Specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

CLASSIFIERS = [each for each in ZOO if not {"reconstruction", "may_refuse"} & set(each.tags)]
Passes = Callable[[], int]


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Counts the passes that send back several labels."""
    calls: list[int] = []
    own = Reader.stacked

    def counted(self: Reader, outputs: Tensor, seeds: Tensor, reduce: passes.Reduce) -> list[dict[str, Tensor]]:
        calls.append(len(seeds))
        return own(self, outputs, seeds, reduce)

    monkeypatch.setattr(Reader, "stacked", counted)
    return lambda: len(calls)


def read(model: nn.Module, inputs: object, output: object, most: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Squared norms (B, N, T), with at most so many samples of all labels sent back at once."""
    monkeypatch.setattr(meter, "_STACKED", most)
    instrument = Gradiometer(model, ContrastClasses(), output=output)  # type: ignore[arg-type]
    instrument.squared_norms(inputs)  # type: ignore[arg-type]
    return instrument.squared_norms(inputs).values  # type: ignore[arg-type]


@pytest.mark.parametrize("chosen", CLASSIFIERS, ids=lambda each: each.name)
def test_equals_one_label_at_a_time(chosen: Specimen, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = chosen.build(torch.float64), chosen.inputs(4, torch.float64)
    alone = read(model, inputs, chosen.output, 0, monkeypatch)
    for most in (8, 100):
        found = read(model, inputs, chosen.output, most, monkeypatch)
        torch.testing.assert_close(found, alone, rtol=1e-8, atol=1e-10 * alone.max().item())


@pytest.mark.parametrize("chosen", CLASSIFIERS, ids=lambda each: each.name)
def test_gram_matrices_equal_those_of_one_direction_at_a_time(
    chosen: Specimen, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrument = Gradiometer(chosen.build(torch.float64), output=chosen.output)
    inputs, found = chosen.inputs(4, torch.float64), []
    for most in (0, 8, 100):
        monkeypatch.setattr(meter, "_STACKED", most)
        found.append(instrument.class_grams(inputs).values)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-8, atol=1e-10 * found[0].abs().max().item())


def test_all_directions_of_few_samples_take_one_pass(stacked: Passes) -> None:
    instrument = Gradiometer(resnet20().eval())
    instrument.class_grams(torch.rand(2, 3, 32, 32))
    assert stacked() == 2  # the first of them to see whether it can be done
    instrument.class_grams(torch.rand(2, 3, 32, 32))
    assert stacked() == 3


def test_most_of_the_zoo_is_read_so(stacked: Passes) -> None:
    """The comparison above compares something."""
    so = 0
    for chosen in CLASSIFIERS:
        before = stacked()
        instrument = Gradiometer(chosen.build(torch.float32), ContrastClasses(), output=chosen.output)
        inputs = chosen.inputs(2, torch.float32)
        instrument.squared_norms(inputs)
        instrument.squared_norms(inputs)
        so += stacked() >= before + 2
    assert so >= len(CLASSIFIERS) * 2 // 3


def test_all_labels_of_few_samples_take_one_pass(stacked: Passes) -> None:
    instrument = Gradiometer(resnet20().eval(), ContrastClasses())
    instrument.squared_norms(torch.rand(2, 3, 32, 32))
    instrument.squared_norms(torch.rand(2, 3, 32, 32))
    assert stacked() == 2


def test_memory_bounds_how_many(stacked: Passes) -> None:
    model, few = resnet20().eval(), torch.rand(8, 3, 32, 32)
    need = Gradiometer(model).needs(few)
    tight = Gradiometer(model, ContrastClasses(), memory=need.fixed + 3 * need.sample)
    found = tight.squared_norms(few)
    assert stacked() == 0
    torch.testing.assert_close(
        found.values, Gradiometer(model, ContrastClasses()).squared_norms(few).values, rtol=1e-3, atol=0
    )


def test_a_pass_that_cannot_be_vectorised_is_repeated_one_by_one(stacked: Passes) -> None:
    class Peeks(torch.autograd.Function):
        """Looks at its gradient, which nothing can do for several labels at once."""

        @staticmethod
        def forward(ctx: object, values: Tensor) -> Tensor:
            return values.clone()

        @staticmethod
        def backward(ctx: object, *gradients: Tensor) -> Tensor:
            return gradients[0] if float(gradients[0].sum()) < 1e9 else gradients[0] * 0

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            peeked: Tensor = Peeks.apply(self.first(x).relu())
            return self.last(peeked)  # type: ignore[no-any-return]

    model, inputs = Model().eval(), torch.rand(5, 4)
    instrument = Gradiometer(model, ContrastClasses())
    found = instrument.squared_norms(inputs)
    twice = instrument.squared_norms(inputs)
    assert stacked() == 1  # tried once
    torch.testing.assert_close(found.values, twice.values)
    one = torch.cat([instrument.squared_norms(inputs[at : at + 1]).values for at in range(5)])
    torch.testing.assert_close(found.values, one)


def test_a_difference_sends_the_labels_back_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Reader.stacked

    def wrong(self: Reader, *arguments: object) -> list[dict[str, Tensor]]:
        return [{name: 2 * value for name, value in each.items()} for each in own(self, *arguments)]  # type: ignore[arg-type]

    model, inputs = resnet20().eval(), torch.rand(2, 3, 32, 32)
    alone = read(model, inputs, None, 0, monkeypatch)
    monkeypatch.setattr(Reader, "stacked", wrong)
    torch.testing.assert_close(read(model, inputs, None, 100, monkeypatch), alone)


def test_a_gradient_that_is_the_same_for_all_labels() -> None:
    """It comes without a dimension for the labels, and every label gets it."""
    labels, seen = Labels(), list[Tensor]()
    leaf = torch.rand(2, 3, requires_grad=True)
    hidden = leaf * 1

    def arrived(_: Tensor) -> None:
        labels.met(torch.ones(2, 3), seen.append)
        assert torch.equal(labels.met(torch.ones(2, 3), lambda stack: 2 * stack), torch.full((2, 3), 2.0))  # type: ignore[arg-type]

    hidden.register_hook(arrived)
    with labels.of(4):
        send_back(hidden.sum(1), leaf, torch.rand(4, 2))
    assert torch.equal(seen[0], torch.ones(8, 3))
    assert labels.count == 1


def test_copies_keep_the_memory_format() -> None:
    images = torch.rand(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    copies = again(images, 3)
    assert copies.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(copies, images.repeat(3, 1, 1, 1))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("batch", [1, 9])
def test_convolutions_that_are_padded_by_a_word(padding: str, batch: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=padding),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=padding),
        nn.Flatten(),
        nn.LazyLinear(4),
    )
    images = torch.rand(batch, 1, 9, 9)
    model.eval()(images)
    meter = Gradiometer(model, ContrastClasses())
    found = meter.squared_norms(images).values
    torch.testing.assert_close(
        meter.class_grams(images).squared_norms(ContrastClasses()).values, found, rtol=1e-4, atol=0
    )
