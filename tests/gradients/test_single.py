"""One sample is read by a backward pass of its own, and what is read is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import ModelError
from gradiometer.gradients import ContrastClasses, Gradiometer, passes
from gradiometer.gradients.factors import sum_of_squares
from gradiometer.models.resnet import resnet20
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, loss_of, measured, relative_errors, shared_meter
from tests.zoo import ZOO, Specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that are read by a program; planning is not among them."""
    sizes: list[int] = []
    own = passes.walk

    def counted(subject: Any, x: Any, batch: int, *others: Any, **named: Any) -> Any:
        sizes.append(batch)
        return own(subject, x, batch, *others, **named)

    monkeypatch.setattr(passes, "walk", counted)
    return sizes


@pytest.fixture
def forwards() -> tuple[nn.Module, list[int]]:
    """A small classifier, and the sizes of the batches that it has been called with."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    sizes: list[int] = []

    def call(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return own(images)

    own = model.forward
    model.forward = call  # type: ignore[method-assign]
    return model, sizes


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("chosen", ZOO, ids=lambda each: each.name)
def test_equals_the_loop(chosen: Specimen, statistic: str) -> None:
    inputs = chosen.inputs(1, torch.float64)
    gradients = loop.loop_gradients(chosen.build(torch.float64), inputs, loss_of(chosen), chosen.output)
    found = measured(shared_meter(chosen.name, torch.float64), inputs, statistic)
    assert float(relative_errors(found, gradients, statistic, 1e-3).max()) < 1e-10


def test_takes_one_forward_pass_and_no_program(forwards: Any, watched: list[int]) -> None:
    model, sizes = forwards
    meter, image = Gradiometer(model), torch.rand(1, 3, 8, 8)
    meter.squared_norms(image)
    sizes.clear()
    meter.squared_norms(image)
    meter.squared_norms(image, activations=True)
    assert (sizes, watched) == ([1, 1], [])
    meter.squared_norms(torch.rand(2, 3, 8, 8))
    assert watched == [2]


def test_a_layer_without_influence_asks_for_no_other_pass(forwards: Any) -> None:
    model, sizes = forwards
    with torch.no_grad():
        model[0].bias.fill_(-1e3)  # no unit of the first layer is open
    meter, image = Gradiometer(model), torch.rand(1, 3, 8, 8)
    meter.squared_norms(image)
    sizes.clear()
    assert meter.squared_norms(image)["0.weight"].tolist() == [0.0]
    assert sizes == [1]


def test_squares_below_the_range_of_float32_are_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[1].weight.mul_(1e-24)  # so that the gradient of the first layer is as small, and its square no float32
    x = torch.randn(1, 4)
    found = Gradiometer(model, loop.cross_entropy(1)).squared_norms(x)["0.weight"]
    gradients = loop.loop_gradients(model, x, loop.cross_entropy(1))["0.weight"].double()
    assert 0 < found.item() < 1e-46
    torch.testing.assert_close(found, gradients.flatten(1).square().sum(1), rtol=1e-4, atol=0)


def test_layer_inputs_come_from_the_same_pass() -> None:
    model = resnet20().eval()
    meter, images = Gradiometer(model), torch.rand(2, 3, 32, 32)
    layers = meter.layers(images)[1:4]
    one = meter.squared_norms(images[:1], activations=True, means=layers, shares=layers)
    both = meter.squared_norms(images, activations=True, means=layers, shares=layers)
    assert (one.activations, both.activations) != (None, None)
    torch.testing.assert_close(one.activations, both.activations[:1], rtol=1e-4, atol=0)
    for name in layers:
        torch.testing.assert_close(one.means[name], both.means[name][:1], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.shares[name], both.shares[name][:1], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    "change",
    [lambda model: model.bfloat16(), lambda model: model.half()],
    ids=["bfloat16", "float16"],
)
def test_short_types_are_read_by_the_program(change: Callable[[nn.Module], nn.Module], watched: list[int]) -> None:
    """Gradients of weights would be rounded to them, or leave their range."""
    model = change(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval())
    Gradiometer(model).squared_norms(torch.randn(1, 4, dtype=next(model.parameters()).dtype))
    assert watched == [1]


def test_autocast_is_read_by_the_program(watched: list[int]) -> None:
    meter = Gradiometer(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).eval())
    with torch.autocast("cpu", torch.bfloat16):
        meter.squared_norms(torch.randn(1, 4))
    assert watched == [1]


def test_all_gradients_at_once_have_to_fit_into_the_memory(watched: list[int]) -> None:
    model, image = resnet20().eval(), torch.rand(1, 3, 32, 32)
    held = sum(4 * parameter.numel() for parameter in model.parameters())
    meter = Gradiometer(model)
    most = meter.needs(image).of(1) + held
    for memory, programs in ((most, []), (most - 1, [1])):
        meter.memory = memory
        watched.clear()
        meter.squared_norms(image)
        assert watched == programs


def test_several_labels_are_sent_back_together(watched: list[int]) -> None:
    model, image = resnet20().eval(), torch.rand(1, 3, 32, 32)
    Gradiometer(model, ContrastClasses()).squared_norms(image)
    assert watched
    assert set(watched) == {1}


def test_squares_of_many_numbers_are_added_up_block_by_block() -> None:
    """One norm of as many in float32 is 6e-5 off."""
    values = torch.rand(2, 3, 1_000_003, generator=torch.Generator().manual_seed(0))
    wanted = values.double().square().sum((1, 2))
    torch.testing.assert_close(sum_of_squares(values).double(), wanted, rtol=1e-6, atol=0)


def test_outputs_that_are_not_finite_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    meter = Gradiometer(model)
    meter.squared_norms(torch.ones(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    with pytest.raises(ModelError, match="NaN or infinite outputs"):
        meter.squared_norms(torch.full((1, 2), 1e3))
