"""A reading goes back only as far as the first parameter that was asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradiometer import ContrastClasses, Gradiometer
from tests.gradients import loop


class Calls(TorchDispatchMode):
    """Counts the kernels that are called, in the forward and in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def backward(self) -> int:
        """How many kernels of backward passes were called."""
        return sum(count for name, count in self.found.items() if "backward" in name)


class Stages(nn.Module):
    """Four stages of a convolution and a bounded activation each, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3 if at == 0 else 4, 4, 3, padding=1) for at in range(4))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x).sigmoid()
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Stages().eval()


IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def calls(meter: Gradiometer) -> Calls:
    """The kernels of one reading, the plan having been made."""
    meter.plan(IMAGES)
    with Calls() as counted:
        meter.squared_norms(IMAGES)
    return counted


@pytest.mark.parametrize("objective", [None, ContrastClasses()])
def test_the_last_layer_costs_no_backward_kernel(model: nn.Module, objective: ContrastClasses | None) -> None:
    """Its readings follow in closed form from its input and from the slope of the objective."""
    counted = calls(Gradiometer(model, objective, "fc.*"))
    assert counted.backward == 0
    assert counted.found["convolution"] == 4


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_backward_pass_ends_at_the_first_parameter(model: nn.Module, first: int) -> None:
    globs = [f"stages.{at}.*" for at in range(first, 4)]
    meter = Gradiometer(model, parameters=globs)
    counted = calls(meter)
    # One activation behind each stage that is read; one input gradient for each stage but the first of them.
    assert counted.found["sigmoid_backward"] == 4 - first
    native = sum("groups" in line.path for line in meter.plan(IMAGES).lines)
    assert counted.found["convolution_backward"] == 4 - first - 1 + native


def test_readings_of_some_equal_those_of_all(model: nn.Module) -> None:
    wanted = loop.squared_norms(loop.loop_gradients(model.double(), IMAGES.double(), loop.bce_with_logits()))
    model.float()
    names = [name for name, _ in model.named_parameters()]
    for globs in ("fc.*", "stages.3.*", ["stages.2.weight", "fc.bias"]):
        readings = Gradiometer(model, parameters=globs).squared_norms(IMAGES)
        chosen = [names.index(name) for name in readings.parameters]
        torch.testing.assert_close(readings.values, wanted[:, chosen], rtol=1e-4, atol=0)
