"""Batch norm folded into the convolution before it: where it is done, where not, and that nothing shows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradiometer.gradients import Gradiometer
from gradiometer.gradients.rules import costs
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, reference_like, relative_errors


class Block(nn.Module):
    """A convolution, a batch norm, something behind them, and a head."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor], *, bias: bool = False, dimensions: int = 2) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
        self.conv, self.norm = convolution(3, 8, 3, padding=1, bias=bias), norm(8)
        self.head = nn.Linear(8, 4)
        self.between = between
        generator = torch.Generator().manual_seed(0)
        for tensor in (self.norm.running_mean, self.norm.bias):
            tensor.data.normal_(0.0, 0.5, generator=generator)
        for tensor in (self.norm.running_var, self.norm.weight):
            tensor.data.uniform_(0.5, 2.0, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        return self.head(self.between(z, self.norm(z)).flatten(2).mean(2))


def plainly(z: Tensor, y: Tensor) -> Tensor:
    return torch.tanh(y)


def rectified(z: Tensor, y: Tensor) -> Tensor:
    return functional.relu(y)


def rectified_in_place(z: Tensor, y: Tensor) -> Tensor:
    return functional.relu(y, inplace=True) * 2.0


def added_in_place(z: Tensor, y: Tensor) -> Tensor:
    y += 0.5
    return torch.relu_(y)


def rectified_and_kept(z: Tensor, y: Tensor) -> Tensor:
    return functional.relu(y) + 0.1 * y


def squared_in_place(z: Tensor, y: Tensor) -> Tensor:
    return y.sigmoid_()


def read_before(z: Tensor, y: Tensor) -> Tensor:
    return y + z


def looked_at_before(z: Tensor, y: Tensor) -> Tensor:
    return y * z.detach().abs().mean(tuple(range(1, z.ndim)), keepdim=True)


FOLDED = (plainly, rectified, rectified_in_place, added_in_place, rectified_and_kept, squared_in_place)
NOT_FOLDED = (read_before, looked_at_before)


def images(dimensions: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    sizes = (9,) * dimensions
    return torch.randn(5, 3, *sizes, dtype=dtype, generator=torch.Generator().manual_seed(1))


def folded(meter: Gradiometer, x: Tensor) -> bool:
    paths = {line.parameter: line.path for line in meter.plan(x).lines}
    assert "loop" not in paths.values()
    return paths["norm.weight"] == "sum, folded"


def worst(model: nn.Module, x: Tensor, statistic: str, meter: Gradiometer) -> float:
    """Largest error of a float64 or float32 model against the loop in float64."""
    exact = copy.deepcopy(model).double()
    gradients = loop.loop_gradients(exact, x.double(), loop.bce_with_logits())
    if statistic == "inner_products":
        reference = {name: each.to(x.dtype) for name, each in reference_like(gradients).items()}
        found: Any = meter.inner_products(x, reference).values
    else:
        found = getattr(meter, statistic)(x)
        found = found if statistic == "gradients" else found.values
    return float(relative_errors(found, gradients, statistic, 1e-3).max())


@pytest.mark.parametrize("between", [*FOLDED, *NOT_FOLDED], ids=lambda each: each.__name__)
@pytest.mark.parametrize("bias", [False, True])
def test_every_statistic_is_that_of_the_loop(between: Callable[[Tensor, Tensor], Tensor], bias: bool) -> None:
    model, x = Block(between, bias=bias).eval().double(), images()
    meter = Gradiometer(model)
    assert folded(meter, x) == (between in FOLDED)
    for statistic in STATISTICS:
        assert worst(model, x, statistic, meter) < 1e-10, statistic


@pytest.mark.parametrize("form", ["offsets", "groups", "gram"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_form(form: str, dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "seconds", lambda candidate, task: float(candidate != form))
    model, x = Block(rectified, dimensions=dimensions).eval().double(), images(dimensions)
    meter = Gradiometer(model)
    assert folded(meter, x)
    for statistic in STATISTICS:
        assert worst(model, x, statistic, meter) < 1e-10, statistic


@pytest.mark.parametrize("change", ["zero scale", "large shift", "distant mean"])
def test_what_would_cost_precision_is_not_folded(change: str) -> None:
    model, x = Block(rectified).eval(), images(dtype=torch.float32)
    with torch.no_grad():
        if change == "zero scale":
            model.norm.weight[2] = 0.0
        elif change == "large shift":
            model.norm.bias[2] = 1e3
        else:
            model.norm.running_mean[2] = 1e3
    meter = Gradiometer(model)
    assert not folded(meter, x)
    assert worst(model, x, "squared_norms", meter) < 1e-4


@pytest.mark.parametrize("scale", [0.0, -0.7])
def test_weights_that_change_after_the_plan_are_looked_at_again(scale: float) -> None:
    model, x = Block(rectified).eval().double(), images()
    meter = Gradiometer(model)
    assert folded(meter, x)
    model.norm.weight.data[:3] = scale
    assert worst(model, x, "squared_norms", meter) < 1e-10


def test_a_model_that_looks_only_sometimes_is_right_too() -> None:
    def sometimes(z: Tensor, y: Tensor) -> Tensor:
        return y + z if float(y.detach().abs().max()) > 30.0 else y

    model, x = Block(sometimes).eval().double(), images()
    meter = Gradiometer(model)
    assert folded(meter, x)
    assert worst(model, x, "squared_norms", meter) < 1e-10
    assert worst(model, 100.0 * x, "squared_norms", meter) < 1e-10


@pytest.mark.parametrize("norm", [False, True])
def test_what_a_rectifier_has_overwritten_is_not_read(norm: bool) -> None:
    """Nothing but a rectifier reads the layer when the plan is made; later something else does too."""

    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = self.norm(self.conv(x)) if norm else self.conv(x)
            y = functional.relu(z)
            y = y + z if float(x.detach().abs().max()) > 30.0 else y
            return self.head(y.flatten(2).mean(2))

    torch.manual_seed(0)
    model, x = Sometimes().eval().double(), images()
    meter = Gradiometer(model)
    for scale in (1.0, 100.0):
        assert worst(model, scale * x, "squared_norms", meter) < 1e-10


def test_what_a_rectifier_would_overwrite_may_be_returned() -> None:
    class Both(nn.Sequential):
        passes = 0

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            self.passes += 1
            z = self[0](x)
            return functional.relu(z).mean((2, 3)), z

    torch.manual_seed(0)
    model, x = Both(nn.Conv2d(3, 4, 3)).eval().double(), images()
    meter = Gradiometer(model, output=lambda raw: raw[0] + raw[1].amax((2, 3)))
    readings = meter.squared_norms(x)
    pooled, z = model(x)
    torch.testing.assert_close(readings.outputs, (pooled + z.amax((2, 3))).detach())
    model.passes = 0
    meter.squared_norms(x)
    assert model.passes == 1, "no loop over single samples"


def test_layers_without_batch_norm_are_rectified_where_they_are() -> None:
    class Kept(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            z = self[0](x)
            y = functional.relu(z)
            seen[:] = z, y
            return self[2](y.flatten(2).mean(2))

    torch.manual_seed(0)
    seen: list[Tensor] = []
    model, x = Kept(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(8, 4)).eval().double(), images()
    meter = Gradiometer(model)
    for statistic in STATISTICS:
        assert worst(model, x, statistic, meter) < 1e-10, statistic
    meter.squared_norms(x)
    assert seen[0].data_ptr() == seen[1].data_ptr()


class Residual(nn.Module):
    """A sum that a rectifier reads, and a batch norm behind it."""

    def __init__(self, behind: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3, 4)
        self.behind = behind
        self.look: Callable[..., object] = lambda *tensors: None

    def forward(self, x: Tensor) -> Tensor:
        total = self.conv(x) + x
        rectified = functional.relu(total)
        normalised = self.norm(self.behind(total, rectified))
        again = functional.relu(normalised)
        self.look(total, rectified, normalised, again)
        return self.head(again.flatten(2).mean(2))


def test_sums_and_batch_norms_are_rectified_where_they_are() -> None:
    torch.manual_seed(0)
    model, x = Residual(lambda total, rectified: rectified).eval().double(), images()
    meter = Gradiometer(model)
    for statistic in STATISTICS:
        assert worst(model, x, statistic, meter) < 1e-10, statistic
    torch.testing.assert_close(meter.squared_norms(x).outputs, model(x).detach())
    seen: list[Tensor] = []
    model.look = lambda *tensors: seen.extend(tensors)
    meter.squared_norms(x)
    total, first, normalised, second = (tensor.data_ptr() for tensor in seen)
    assert total == first != normalised == second


@pytest.mark.parametrize("late", [False, True])
def test_sums_that_are_read_again_stay(late: bool) -> None:
    """Also when that happens only after the plan was made."""

    def behind(total: Tensor, rectified: Tensor) -> Tensor:
        return rectified + total if not late or float(x.abs().max()) > 30.0 else rectified

    torch.manual_seed(0)
    model, x = Residual(behind).eval().double(), images()
    meter = Gradiometer(model)
    for scale in (1.0, 100.0):
        x = scale * x
        assert worst(model, x, "squared_norms", meter) < 1e-10


def test_hooks_of_the_owner_see_what_they_would_see() -> None:
    model, x = Block(rectified).eval().double(), images()
    meter = Gradiometer(model)
    meter.squared_norms(x)
    seen: list[Tensor] = []
    handle = model.conv.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    model.norm.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    meter.squared_norms(x)
    handle.remove()
    torch.testing.assert_close(seen[0], model.conv(x))
    torch.testing.assert_close(seen[1], model.norm(model.conv(x)))


def test_hooks_see_a_layer_before_it_is_rectified() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2)).eval().double()
    meter, x = Gradiometer(model), images()
    meter.squared_norms(x)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(output.detach()))
    meter.squared_norms(x)
    torch.testing.assert_close(seen[-1], nn.functional.conv2d(x, model[0].weight, model[0].bias).detach())


def test_the_outputs_are_those_of_the_model() -> None:
    model, x = Block(rectified_in_place).eval().double(), images()
    torch.testing.assert_close(Gradiometer(model).squared_norms(x).outputs, model(x))
