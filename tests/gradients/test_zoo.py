"""Every statistic on every network of the zoo equals the loop over single samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from gradiometer.errors import ModelError
from gradiometer.gradients import (
    ConfoundingLabel,
    ContrastClasses,
    Gradiometer,
    Objective,
    PseudoLabel,
    UniformTarget,
)
from tests.gradients import loop
from tests.gradients.measure import (
    STATISTICS,
    TOLERANCE,
    expected,
    loss_of,
    meter_of,
    relative_errors,
    shared_meter,
    worst,
)
from tests.zoo import ZOO, Specimen, over, specimen, take

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

DTYPES = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in TOLERANCE]
EACH = pytest.mark.parametrize("chosen", ZOO, ids=lambda each: each.name)
FLOOR = 1e-2


@contextmanager
def refusal_allowed(chosen: Specimen) -> Iterator[None]:
    """Accepts a named error from networks that hide their batch, and from no other."""
    try:
        yield
    except ModelError:
        if "may_refuse" not in chosen.tags:
            raise


def test_the_zoo_is_large_enough() -> None:
    assert len(ZOO) >= 50
    assert sum("may_refuse" in each.tags for each in ZOO) < len(ZOO) / 10


@pytest.mark.parametrize("dtype", DTYPES)
@EACH
def test_equals_the_loop(chosen: Specimen, dtype: torch.dtype) -> None:
    """All four statistics; the message names the worst."""
    with refusal_allowed(chosen):
        errors = {statistic: worst(chosen.name, statistic, dtype) for statistic in STATISTICS}
        assert max(error.value for error in errors.values()) <= TOLERANCE[dtype], errors


@EACH
def test_a_plan_serves_every_batch_size_and_order(chosen: Specimen) -> None:
    """One instrument reads three samples, then one, then five others, then those in another order."""
    meter, floor = meter_of(chosen, torch.float64), FLOOR
    three, five = chosen.inputs(3, torch.float64), chosen.inputs(5, torch.float64, seed=1)
    order = torch.tensor([3, 0, 4, 2, 1])
    model = chosen.build(torch.float64)
    of_five = loop.loop_gradients(model, five, loss_of(chosen), chosen.output)
    with refusal_allowed(chosen):
        meter.squared_norms(three)
        for position in range(3):
            one = meter.squared_norms(take(three, slice(position, position + 1))).values
            wanted = {name: rows[position : position + 1] for name, rows in expected(chosen.name).items()}
            assert relative_errors(one, wanted, "squared_norms", floor).max() <= 1e-10
        found = meter.squared_norms(five).values
        assert relative_errors(found, of_five, "squared_norms", floor).max() <= 1e-10
        shuffled = meter.squared_norms(take(five, order)).values
        wanted = {name: rows[order] for name, rows in of_five.items()}
        assert relative_errors(shuffled, wanted, "squared_norms", floor).max() <= 1e-10


@EACH
def test_first_read_with_a_batch_of_one(chosen: Specimen) -> None:
    """The plan is made on a single sample; sequences and tables must not be taken for the batch."""
    meter = meter_of(chosen, torch.float64)
    with refusal_allowed(chosen):
        meter.squared_norms(chosen.inputs(1, torch.float64, seed=2))
        found = meter.squared_norms(chosen.inputs(3, torch.float64)).values
        assert relative_errors(found, expected(chosen.name), "squared_norms", FLOOR).max() <= 1e-10


@EACH
def test_some_parameters_alone_read_the_same(chosen: Specimen) -> None:
    """The first and the last parameter alone, while nothing else requires a gradient."""
    names = list(expected(chosen.name))
    few = list(dict.fromkeys([names[0], names[-1]]))
    with refusal_allowed(chosen):
        readings = meter_of(chosen, torch.float64, parameters=few).squared_norms(chosen.inputs(3, torch.float64))
        assert readings.parameters == tuple(few)
        wanted = loop.squared_norms({name: expected(chosen.name)[name] for name in few})
        largest = loop.squared_norms(expected(chosen.name)).max().item()
        assert torch.allclose(readings.values, wanted, rtol=1e-10, atol=1e-14 * largest)


@EACH
def test_readings_are_complete(chosen: Specimen) -> None:
    """Outputs, names and types of the readings."""
    meter, inputs = shared_meter(chosen.name, torch.float32), chosen.inputs(3)
    with refusal_allowed(chosen):
        readings = meter.squared_norms(inputs)
        names = tuple(name for name, _ in chosen.build().named_parameters())
        assert readings.parameters == names
        assert readings.values.dtype == torch.float64
        assert readings.values.shape == (3, len(names))
        assert not readings.values.requires_grad
        assert not readings.outputs.requires_grad
        with torch.no_grad():
            alone = torch.cat([_outputs(meter, chosen, take(inputs, slice(at, at + 1))) for at in range(3)])
        torch.testing.assert_close(readings.outputs, alone, rtol=1e-4, atol=1e-5)
        assert (readings.values >= 0).all()
        assert all(name in str(meter.plan()) for name in names)


def _outputs(meter: Gradiometer, chosen: Specimen, one: object) -> torch.Tensor:
    from tests.zoo import call, select

    return select(call(meter.model, one), chosen.output)


OBJECTIVES: dict[str, tuple[Objective, list[loop.Loss]]] = {
    "zeros": (ConfoundingLabel("zeros"), [loop.bce_with_logits([0.0, 0.0, 0.0, 0.0])]),
    "multi_hot": (ConfoundingLabel((1.0, 0.0, 1.0, 0.0)), [loop.bce_with_logits([1.0, 0.0, 1.0, 0.0])]),
    "softmax": (ConfoundingLabel(reading="softmax"), [loop.bce_on_softmax]),
    "contrast": (ContrastClasses(), [loop.cross_entropy(label) for label in range(4)]),
    "contrast_some": (ContrastClasses([2, 0]), [loop.cross_entropy(2), loop.cross_entropy(0)]),
    "pseudo": (PseudoLabel(), [loop.pseudo_label]),
    "uniform": (UniformTarget(), [loop.uniform_target]),
    "own": (
        lambda outputs, inputs: outputs.tanh().square().sum(1) * inputs.flatten(1).mean(1),
        [lambda z, x: z.tanh().square().sum(1) * x.flatten(1).mean(1)],
    ),
}
SOME = (
    "residual_block",
    "gru_both_ways",
    "attention_sequence_first_square",
    "module_at_three_resolutions",
    "row_by_row",
)


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", SOME)
def test_every_objective(name: str, objective: str, statistic: str) -> None:
    chosen = specimen(name)
    chosen_objective, losses = OBJECTIVES[objective]
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    meter = Gradiometer(model, chosen_objective)
    arguments = (loop.random_reference(model),) if statistic == "inner_products" else ()
    found = getattr(meter, statistic)(inputs, *arguments)
    several = isinstance(chosen_objective, ContrastClasses)
    for number, loss in enumerate(losses):
        wanted = loop.loop_gradients(model, inputs, loss)
        if statistic == "gradients":
            mine = {key: value[:, number] if several else value for key, value in found.items()}
        else:
            assert found.values.shape == ((3, len(losses), len(wanted)) if several else (3, len(wanted)))
            mine = found.values[:, number] if several else found.values
        assert relative_errors(mine, wanted, statistic, FLOOR).max() <= 1e-10


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("memory", [1, "96KiB"])
@pytest.mark.parametrize("name", ["residual_block", "siamese_concatenated", "dict_of_inputs", "row_by_row"])
def test_a_memory_limit_changes_nothing(name: str, memory: int | str, statistic: str) -> None:
    chosen = specimen(name)
    inputs = chosen.inputs(7, torch.float64)
    model = chosen.build(torch.float64)
    wanted = loop.loop_gradients(model, inputs, loss_of(chosen), chosen.output)
    meter = meter_of(chosen, torch.float64, memory=memory)
    arguments = (loop.random_reference(meter.model),) if statistic == "inner_products" else ()
    found = getattr(meter, statistic)(inputs, *arguments)
    values = found if statistic == "gradients" else found.values
    assert relative_errors(values, wanted, statistic, FLOOR).max() <= 1e-10


@pytest.mark.parametrize(
    "name", ["residual_block", "conv2d_plain", "torchvision_convnext", "group_norm", "u_net_dense_output"]
)
def test_channels_last(name: str) -> None:
    chosen = specimen(name)
    model = chosen.build(torch.float64).to(memory_format=torch.channels_last)
    inputs = chosen.inputs(3, torch.float64).contiguous(memory_format=torch.channels_last)
    meter = Gradiometer(model, output=chosen.output)
    assert relative_errors(meter.squared_norms(inputs).values, expected(name), "squared_norms", FLOOR).max() <= 1e-10
    assert relative_errors(meter.gradients(inputs), expected(name), "gradients", FLOOR).max() <= 1e-10


def test_inputs_that_share_memory() -> None:
    """One picture expanded to a batch, and a batch cut from a larger one with gaps."""
    chosen = specimen("residual_block")
    meter, model = meter_of(chosen, torch.float64), chosen.build(torch.float64)
    many = chosen.inputs(8, torch.float64)
    for inputs in (many[:1].expand(4, -1, -1, -1), many[::3], many.flip(0).transpose(2, 3)):
        wanted = loop.loop_gradients(model, inputs, loop.bce_with_logits())
        assert relative_errors(meter.squared_norms(inputs).values, wanted, "squared_norms", FLOOR).max() <= 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(
    "name", ["nested_sequentials", "conv2d_plain", "layer_norm_on_sequences", "embedding_used_twice"]
)
def test_low_precision_models(name: str, dtype: torch.dtype) -> None:
    """Weights and inputs are rounded to the low precision first, then the float64 loop sees the same numbers."""
    chosen = specimen(name)
    inputs = over(chosen.inputs(3), lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
    model = chosen.build().to(dtype)
    wide = over(inputs, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    wanted = loop.loop_gradients(chosen.build().to(dtype).double(), wide, loop.bce_with_logits())
    readings = Gradiometer(model).squared_norms(inputs)
    assert readings.values.dtype == torch.float64
    tolerance = 8 * torch.finfo(dtype).eps
    assert relative_errors(readings.values, wanted, "squared_norms", 0.1).max() <= tolerance


def test_globs_select_in_registration_order() -> None:
    chosen = specimen("residual_block")
    inputs = chosen.inputs(3, torch.float64)
    readings = meter_of(chosen, torch.float64, parameters=["head.*", "body.short*"]).squared_norms(inputs)
    assert readings.parameters == tuple(
        name for name in expected(chosen.name) if name.startswith(("body.short", "head."))
    )
    everything = meter_of(chosen, torch.float64).squared_norms(inputs)
    for name in readings.parameters:
        torch.testing.assert_close(readings[name], everything[name], rtol=1e-12, atol=0)


def test_report_command_prints_the_worst_error(capfd: pytest.CaptureFixture[str]) -> None:
    from tests.zoo_report import main

    assert main(["mlp_without_bias"]) == 0
    printed = capfd.readouterr().out
    assert "mlp_without_bias" in printed
    assert "worst float32" in printed
    assert "worst float64" in printed
