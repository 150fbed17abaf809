"""Short types, autocast, memory formats, tiny gradients and exact zeros, for every statistic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import ModelError
from gradiometer.gradients import ConfoundingLabel, Gradiometer
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, expected, loss_of, measured, meter_of, relative_errors, shared_meter
from tests.zoo import ZOO, Specimen, over, specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*non-contiguous.*:UserWarning"),
]

SHORT = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in (torch.bfloat16, torch.float16)]
#: The share of the largest statistic of a network below which rounding of other layers decides in short types.
FLOOR = 0.1
#: Relative error of PyTorch's own gradients from which nothing can be asked of others: kernels of bfloat16 have
#: been seen to return memory that was never written, another one in every run.
WILD = 1.0
#: Networks of whose gradients PyTorch 2.14 leaves some memory unwritten, so that they are whatever was there before:
#: now and then in the loop, and now and then in ours.
UNWRITTEN = {("torchvision_resnet", torch.bfloat16)}


def in_type(inputs: Any, dtype: torch.dtype) -> Any:
    """The inputs with their floating-point tensors in another type."""
    return over(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def short_loop(chosen: Specimen, dtype: torch.dtype) -> tuple[Any, loop.Gradients, loop.Gradients]:
    """The inputs in a short type, the gradients of the loop in that type, and those in float64 of the same numbers."""
    inputs = in_type(chosen.inputs(3), dtype)
    own = loop.loop_gradients(chosen.build().to(dtype), inputs, loss_of(chosen), chosen.output)
    twin = chosen.build().to(dtype).double()
    return inputs, own, loop.loop_gradients(twin, in_type(inputs, torch.float64), loss_of(chosen), chosen.output)


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("chosen", ZOO, ids=lambda each: each.name)
def test_short_types_are_no_worse_than_autograd_in_them(chosen: Specimen, dtype: torch.dtype) -> None:
    """The error against float64 is some roundings, or what the loop in the same type has, a few times over."""
    if (chosen.name, dtype) in UNWRITTEN:
        pytest.skip(f"PyTorch leaves gradients of this network in {dtype} unwritten")
    try:
        inputs, own, wanted = short_loop(chosen, dtype)
    except (RuntimeError, TypeError) as error:
        pytest.skip(f"PyTorch cannot differentiate this network in {dtype}: {str(error).splitlines()[0]}")
    if not all(bool(torch.isfinite(gradient).all()) for gradient in own.values()):
        pytest.skip(f"the gradients of this network leave the range of {dtype}")
    if float(relative_errors(own, wanted, "gradients", FLOOR).max()) > WILD:
        pytest.skip(f"PyTorch's own gradients of this network in {dtype} have nothing to do with those in float64")
    meter = Gradiometer(chosen.build().to(dtype), meter_of(chosen, torch.float32).objective, output=chosen.output)
    for statistic in STATISTICS:
        try:
            found = measured(meter, inputs, statistic)
        except ModelError:
            assert "may_refuse" in chosen.tags
            return
        error = float(relative_errors(found, wanted, statistic, FLOOR).max())
        theirs = own if statistic == "gradients" else getattr(loop, statistic)(own, *reference(meter, statistic))
        bound = 4 * float(relative_errors(theirs, wanted, statistic, FLOOR).max())
        assert error <= max(bound, 32 * torch.finfo(dtype).eps), statistic


def reference(meter: Gradiometer, statistic: str) -> tuple[loop.Gradients, ...]:
    """The further arguments of a statistic."""
    return (loop.random_reference(meter.model),) if statistic == "inner_products" else ()


AUTOCAST = (
    "residual_block",
    "linear_sequence",
    "conv2d_plain",
    "layer_norm_on_sequences",
    "embedding_used_twice",
    "mlp",
)


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("name", AUTOCAST)
def test_under_autocast(name: str, dtype: torch.dtype) -> None:
    """No worse than autograd under autocast; and what is read without it afterwards is as before."""
    chosen = specimen(name)
    meter, inputs = meter_of(chosen, torch.float32), chosen.inputs(3)
    plain = meter.squared_norms(inputs).values
    with torch.autocast("cpu", dtype):
        own = loop.loop_gradients(chosen.build(), inputs, loss_of(chosen), chosen.output)
        found = {statistic: measured(meter, inputs, statistic) for statistic in STATISTICS}
    wanted = {parameter: gradients[:3] for parameter, gradients in expected(name).items()}
    for statistic, values in found.items():
        theirs = own if statistic == "gradients" else getattr(loop, statistic)(own, *reference(meter, statistic))
        bound = 4 * float(relative_errors(theirs, wanted, statistic, FLOOR).max())
        error = float(relative_errors(values, wanted, statistic, FLOOR).max())
        assert error <= max(bound, 16 * torch.finfo(dtype).eps), statistic
    assert torch.equal(meter.squared_norms(inputs).values, plain)


PICTURES = [
    each
    for each in ZOO
    if isinstance(inputs := each.inputs(1), Tensor) and inputs.ndim == 4 and "may_refuse" not in each.tags
]


@pytest.mark.parametrize("chosen", PICTURES, ids=lambda each: each.name)
def test_channels_last_inputs(chosen: Specimen) -> None:
    inputs = chosen.inputs(3, torch.float64).contiguous(memory_format=torch.channels_last)
    meter = shared_meter(chosen.name, torch.float64)
    floor = 1e-2 if "cancels" in chosen.tags else 1e-3
    wanted = {name: gradients[:3] for name, gradients in expected(chosen.name).items()}
    for statistic in STATISTICS:
        found = measured(meter, inputs, statistic)
        assert relative_errors(found, wanted, statistic, floor).max() <= 1e-10


@pytest.mark.parametrize("statistic", STATISTICS[:3])
@pytest.mark.parametrize("scale", [1e-15, 1e-30])
@pytest.mark.parametrize("name", ["residual_block", "layer_norm_on_sequences", "embedding_used_twice"])
def test_tiny_losses_keep_their_digits(name: str, scale: float, statistic: str) -> None:
    """Gradients of 1e-30 in float32, whose squares are far below its range."""
    chosen = specimen(name)

    def loss(outputs: Tensor, _: Any) -> Tensor:
        return scale * outputs.double().exp().sum(1)

    found = measured(Gradiometer(chosen.build(), loss), chosen.inputs(3), statistic)
    wide = loop.loop_gradients(chosen.build(torch.float64), chosen.inputs(3, torch.float64), loss)
    assert max(float(gradient.abs().max()) for gradient in wide.values()) < 1e4 * scale
    assert relative_errors(found, wide, statistic, 1e-3).max() <= 1e-4


@pytest.mark.parametrize("factor", [1e-10, 1e-20, 1e-30])
def test_tiny_gradients_inside_of_a_network_keep_their_digits(factor: float) -> None:
    """A head with weights of 1e-30 sends errors of that size back; their squares are read again in float64."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 4)).eval()
    with torch.no_grad():
        model[4].weight.mul_(factor)
    inputs = torch.rand(3, 2, 6, 6)
    found = Gradiometer(model, ConfoundingLabel()).squared_norms(inputs).values
    wanted = loop.squared_norms(loop.loop_gradients(model.double(), inputs.double(), loop.bce_with_logits()))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)
    assert (found[:, 0] < 10 * factor**2).all()
    assert (found > 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_dead_layers_are_exact_zeros_in_every_type(dtype: torch.dtype) -> None:
    chosen = specimen("wholly_dead_relu")
    inputs = in_type(chosen.inputs(3), dtype)
    model = chosen.build().to(dtype)
    own = loop.loop_gradients(model, inputs, loop.bce_with_logits())
    dead = [name for name, gradient in own.items() if not bool(gradient.any())]
    assert dead
    meter = Gradiometer(model)
    for statistic in STATISTICS:
        found = measured(meter, inputs, statistic)
        for name in dead:
            values = found[name] if statistic == "gradients" else found[:, list(own).index(name)]
            assert torch.equal(values, torch.zeros_like(values))
