"""Other devices than the processor, where there is one; and the way of reading that spares them waiting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradiometer.gradients import ConfoundingLabel, ContrastClasses, Gradiometer, PseudoLabel
from gradiometer.gradients.plan import Plan
from tests.gradients import loop
from tests.gradients.measure import expected, loss_of, meter_of, relative_errors
from tests.zoo import ZOO, over, specimen

PRESENT = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}

NAMES = ("residual_block", "embedding_used_twice", "layer_norm_on_sequences", "dead_relu", "module_used_three_times")


@pytest.fixture(params=list(PRESENT))
def device(request: pytest.FixtureRequest) -> str:
    """A device that is there."""
    if not PRESENT[request.param]():
        pytest.skip(f"there is no {request.param} device here")
    return str(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_readings_equal_the_loop_of_the_processor(name: str, device: str) -> None:
    chosen = specimen(name)
    meter = Gradiometer(chosen.build().to(device), output=chosen.output)
    inputs = chosen.inputs(3)
    for given in (inputs, over(inputs, lambda tensor: tensor.to(device))):
        readings = meter.squared_norms(given)
        wanted = loop.loop_gradients(
            chosen.build(torch.float64), chosen.inputs(3, torch.float64), loss_of(chosen), chosen.output
        )
        assert readings.values.dtype == torch.float64
        assert relative_errors(readings.values.cpu(), wanted, "squared_norms", 1e-2).max() <= 1e-3


@pytest.mark.parametrize("objective", [ContrastClasses(), PseudoLabel()])
def test_gram_matrices_and_labels(objective: ContrastClasses | PseudoLabel, device: str) -> None:
    chosen = specimen("residual_block")
    inputs = chosen.inputs(3)
    there = Gradiometer(chosen.build().to(device), objective)
    here = Gradiometer(chosen.build(torch.float64), objective).squared_norms(chosen.inputs(3, torch.float64)).values
    for found in (there.squared_norms(inputs).values, there.class_grams(inputs).squared_norms(objective).values):
        torch.testing.assert_close(found.cpu(), here, rtol=1e-3, atol=1e-6 * float(here.max()))


def test_half_precision_by_autocast(device: str) -> None:
    chosen = specimen("residual_block")
    with torch.autocast(device, torch.float16):
        found = Gradiometer(chosen.build().to(device)).squared_norms(chosen.inputs(3))
    wanted = expected(chosen.name)
    assert relative_errors(found.values.cpu(), {n: g[:3] for n, g in wanted.items()}, "squared_norms", 0.1).max() < 0.05


def test_one_wait_for_each_backward_pass(device: str) -> None:
    """No statistic is looked at on its own, which would make the processor wait for the device."""
    if device != "cuda":
        pytest.skip("PyTorch warns of waiting on cuda alone")
    chosen = specimen("residual_block")
    meter = Gradiometer(chosen.build().to(device))
    inputs = chosen.inputs(3).to(device)
    meter.squared_norms(inputs)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing") as waits:
            meter.squared_norms(inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) < len(meter.parameters)


def deferring(plan: Plan) -> Plan:
    """The plan as it is made, whatever was found since."""
    plan.program.deferred = True
    return plan


@pytest.mark.parametrize("chosen", ZOO[::6], ids=lambda each: each.name)
def test_looking_once_at_the_end_gives_the_same(chosen: object) -> None:
    """Once at the end, or each statistic by itself."""
    meter, inputs = meter_of(chosen, torch.float64), chosen.inputs(3, torch.float64)
    plan = meter.plan(inputs)
    plan.program.deferred = False
    wanted = meter.squared_norms(inputs).values
    deferring(plan)
    assert torch.equal(meter.squared_norms(inputs).values, wanted)


def test_what_left_the_range_is_found_at_the_end_and_read_with_care() -> None:
    """Squares of 1e-44 underflow in float32; the second pass looks at each statistic and leaves them to the loop."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        model[2].weight.mul_(1e-24)
    inputs = torch.rand(3, 4)
    meter = Gradiometer(model, ConfoundingLabel())
    plan = deferring(meter.plan(inputs))
    found = meter.squared_norms(inputs).values
    assert not plan.program.deferred
    wanted = loop.squared_norms(loop.loop_gradients(model.double(), inputs.double(), loop.bce_with_logits()))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)
    assert (found[:, 0] < 1e-45).all()


def test_statistics_in_range_need_no_second_pass() -> None:
    chosen = specimen("residual_block")
    meter, inputs = meter_of(chosen, torch.float32), chosen.inputs(3)
    plan = deferring(meter.plan(inputs))
    calls = []
    meter.model.register_forward_hook(lambda *_: calls.append(1))
    meter.squared_norms(inputs)
    assert plan.program.deferred
    assert len(calls) == 1
