"""What cannot be read is refused with a named error that says what was wrong, with which value, and what to do."""

from __future__ import annotations

import copy
import math
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import GradiometerError, InputError, ModelError
from gradiometer.gradients import Gradiometer, Reconstruction
from tests.gradients import loop
from tests.gradients.measure import STATISTICS
from tests.zoo import specimen


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).eval()


def read(meter: Gradiometer, statistic: str, inputs: Any) -> Any:
    if statistic == "inner_products":
        return meter.inner_products(inputs, loop.random_reference(meter.model))
    return getattr(meter, statistic)(inputs)


def part_in_train_mode(layer: nn.Module) -> nn.Module:
    """A model in eval mode but for one layer, named `1`."""
    model = nn.Sequential(nn.Linear(5, 6), layer, nn.Linear(6, 4)).eval()
    model[1].train()
    return model


TRAINED = {
    "batch_norm": lambda: nn.BatchNorm1d(6),
    "dropout": lambda: nn.Dropout(0.5),
    "alpha_dropout": lambda: nn.AlphaDropout(0.5),
    "sync_batch_norm": lambda: nn.SyncBatchNorm(6),
    "random_relu": lambda: nn.RReLU(),
}


@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms", "plan"])
@pytest.mark.parametrize("layer", TRAINED)
def test_train_mode(layer: str, statistic: str) -> None:
    model = part_in_train_mode(TRAINED[layer]())
    with pytest.raises(ModelError, match=r"(?s)train.*eval|eval.*train|chance.*evaluation"):
        read(Gradiometer(model), statistic, torch.randn(3, 5))


@pytest.mark.parametrize(
    "layer", [nn.LSTM(5, 6, num_layers=2, dropout=0.5, batch_first=True), nn.MultiheadAttention(5, 1, dropout=0.5)]
)
def test_train_mode_of_layers_with_dropout_inside(layer: nn.Module) -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = layer, nn.LazyLinear(4)

        def forward(self, x: Tensor) -> Tensor:
            out = self.inner(x)[0] if isinstance(self.inner, nn.LSTM) else self.inner(x, x, x)[0]
            return self.head(out.mean(1))

    model = Holds().eval()
    model(torch.randn(3, 6, 5))
    model.inner.train()
    with pytest.raises(ModelError):
        Gradiometer(model).squared_norms(torch.randn(3, 6, 5))


def test_train_mode_is_seen_at_each_reading() -> None:
    """Also when the model was in eval mode at first, as in a training loop."""
    model, inputs = specimen("residual_block").build(), specimen("residual_block").inputs(3)
    meter = Gradiometer(model)
    meter.squared_norms(inputs)
    model.train()
    with pytest.raises(ModelError, match="eval"):
        meter.squared_norms(inputs)
    model.eval()
    meter.squared_norms(inputs)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6, track_running_stats=False)])
def test_batch_norm_without_running_statistics(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(5, 6), norm, nn.Linear(6, 4)).eval()
    with pytest.raises(ModelError, match="running"):
        Gradiometer(model).squared_norms(torch.randn(3, 5))


class Mixes(nn.Module):
    """A model whose samples see each other."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body, self.head, self.kind = nn.Linear(5, 6), nn.Linear(6, 4), kind

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x))
        if self.kind == "mean":
            h = h - h.mean(0)
        elif self.kind == "little":
            h = h + 2e-3 * h.mean(0)
        elif self.kind == "softmax":
            h = h * torch.softmax(h, dim=0)
        elif self.kind == "attention":
            h = torch.softmax(h @ h.T, 1) @ h
        elif self.kind == "roll":
            h = h.roll(1, 0)
        elif self.kind == "first":
            h = h + h[:1]
        elif self.kind == "largest":
            h = h / h.abs().max()
        elif self.kind == "noise":
            h = h + 0.1 * torch.randn_like(h)
        return self.head(h)


MIXING = ("mean", "little", "softmax", "attention", "roll", "first", "largest", "noise")


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("kind", MIXING)
def test_models_that_mix_samples_or_draw_lots(kind: str, statistic: str) -> None:
    torch.manual_seed(0)
    model = Mixes(kind).eval()
    with pytest.raises(ModelError, match=r"sample|batch|chance"):
        read(Gradiometer(model), statistic, torch.randn(4, 5))


@pytest.mark.parametrize("kind", MIXING)
@pytest.mark.parametrize("first", ["zeros", "copies", "single"])
def test_mixing_is_found_whatever_came_first(kind: str, first: str) -> None:
    """Warming up on zeros, on copies of one sample or on a single sample must not hide it."""
    torch.manual_seed(0)
    model = Mixes(kind).eval()
    warm = {"zeros": torch.zeros(4, 5), "copies": torch.randn(1, 5).repeat(4, 1), "single": torch.randn(1, 5)}[first]
    meter = Gradiometer(model)

    def work() -> None:
        meter.squared_norms(warm)
        meter.squared_norms(torch.randn(4, 5))

    with pytest.raises(ModelError, match=r"sample|batch|chance"):
        work()


class Returns(nn.Module):
    """Returns something else than (B, C) logits."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.layer, self.what = nn.Linear(5, 4), what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.layer(x))


OUTPUTS = {
    "vector": lambda z: z[:, 0],
    "map": lambda z: z.view(-1, 4, 1, 1),
    "one column": lambda z: z[:, :1],
    "sum": lambda z: z.sum(),
    "transposed": lambda z: z.T,
    "flat": lambda z: z.flatten(),
    "classes": lambda z: z.argmax(1),
    "one-hot": lambda z: (z > 0).long(),
    "dict": lambda z: {"logits": z},
    "tuple": lambda z: (z, z),
    "list": lambda z: [z],
    "none": lambda z: None,
    "array": lambda z: z.detach().numpy(),
    "text": lambda z: "cat",
    "average of the batch": lambda z: z.mean(0, keepdim=True),
    "two rows each": lambda z: z.repeat_interleave(2, 0),
    "nan": lambda z: z * math.nan,
    "infinite": lambda z: z / 0.0,
    "some nan": lambda z: torch.where(z[:, :1] > 0, math.nan, z),
}


@pytest.mark.parametrize("statistic", ["squared_norms", "gradients"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_are_no_logits(kind: str, statistic: str) -> None:
    torch.manual_seed(0)
    model = Returns(OUTPUTS[kind]).eval()
    with pytest.raises(ModelError) as caught:
        read(Gradiometer(model), statistic, torch.randn(3, 5))
    assert len(str(caught.value)) > 40


@pytest.mark.parametrize("kind", ["vector", "map", "dict", "tuple"])
def test_the_message_names_the_shape_and_the_remedy(kind: str) -> None:
    with pytest.raises(ModelError, match=r"(?s)(\(3,|dict|tuple).*output="):
        Gradiometer(Returns(OUTPUTS[kind]).eval()).squared_norms(torch.randn(3, 5))


@pytest.mark.parametrize("output", ["scores", 5, "logits "])
def test_selectors_that_select_nothing(output: Any) -> None:
    what = OUTPUTS["dict"] if isinstance(output, str) else OUTPUTS["tuple"]
    with pytest.raises(GradiometerError, match=r"output="):
        Gradiometer(Returns(what).eval(), output=output).squared_norms(torch.randn(3, 5))


@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms", "plan"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_not_finite(value: float, statistic: str) -> None:
    inputs = torch.randn(4, 5)
    inputs[2, 3] = value
    with pytest.raises(InputError, match=r"(?is)(nan|inf|finite).*2"):
        read(Gradiometer(mlp()), statistic, inputs)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("when", ["before", "after"])
def test_weights_that_are_not_finite(when: str, value: float) -> None:
    """Also when the weights break after the first reading, as in a training run that diverges."""
    model = mlp()
    meter = Gradiometer(model)
    if when == "after":
        meter.squared_norms(torch.randn(3, 5))
    with torch.no_grad():
        model[0].weight[1, 1] = value
    with pytest.raises(ModelError, match=r"(?is)nan|inf|finite"):
        (meter if when == "after" else Gradiometer(model)).squared_norms(torch.randn(3, 5))
    if when == "before":
        with pytest.raises(ModelError, match=r"0\.weight"):
            Gradiometer(model).squared_norms(torch.randn(3, 5))


def test_running_statistics_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)).eval()
    model[1].running_var[2] = math.nan
    with pytest.raises(ModelError, match=r"(?i)nan|inf|finite"):
        Gradiometer(model).squared_norms(torch.randn(3, 5))


def test_outputs_that_overflow_are_not_called_a_mixture() -> None:
    with pytest.raises(ModelError, match="NaN or infinite outputs for 3 of 3 samples"):
        Gradiometer(nn.Linear(4, 5)).squared_norms(torch.full((3, 4), 3e38))


class Pair(NamedTuple):
    """Two inputs that a model calls by name."""

    first: Tensor
    second: Tensor


class Named(nn.Module):
    """Takes a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, pair: Pair) -> Tensor:
        return self.layer(pair.first) + pair.second.sum(1, keepdim=True)


@pytest.mark.parametrize("width", [0, 2])
def test_named_tuples_and_rows_without_numbers_are_inputs(width: int) -> None:
    model = Named()
    pair = Pair(torch.rand(3, 4), torch.rand(3, width))
    found = Gradiometer(model).squared_norms((pair,))
    bias = [
        torch.autograd.grad(_all_ones(model(Pair(*(x[i : i + 1] for x in pair)))), model.layer.bias)[0]
        for i in range(3)
    ]
    torch.testing.assert_close(
        found["layer.bias"], torch.stack([g.double().square().sum() for g in bias]), rtol=1e-5, atol=0
    )


def _all_ones(logits: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms", "plan"])
def test_zero_samples(statistic: str) -> None:
    with pytest.raises(InputError, match=r"(?i)sample|empty"):
        read(Gradiometer(mlp()), statistic, torch.randn(0, 5))


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((3, 5), dtype=np.float32),
        [[0.0] * 5],
        None,
        "images",
        (),
        {},
        torch.tensor(1.0),
        (torch.randn(3, 5), torch.randn(2, 5)),
        {"a": torch.randn(3, 5), "b": torch.randn(4, 5)},
    ],
    ids=["array", "list", "none", "text", "empty tuple", "empty dict", "scalar", "unequal tuple", "unequal dict"],
)
def test_inputs_that_are_no_batch(inputs: Any) -> None:
    with pytest.raises(InputError):
        Gradiometer(mlp()).squared_norms(inputs)


@pytest.mark.parametrize(
    ("inputs", "remedy"),
    [
        (np.zeros((3, 5), np.float32), r"torch\.from_numpy\(x\) makes one"),
        (np.zeros((3, 5)), r"torch\.from_numpy\(x\)\.float\(\)"),
        ({"x": np.zeros((3, 5), np.float32)}, r"the first \(3, 5\)"),
        ([np.zeros((3, 5), np.float32)], "NumPy arrays"),
    ],
    ids=["array", "double", "dict", "list"],
)
def test_arrays_of_numpy_are_told_how_to_become_tensors(inputs: Any, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        Gradiometer(mlp()).squared_norms(inputs)


@pytest.mark.parametrize("parameters", [3, None, [3], [torch.zeros(2)]])
def test_parameters_that_are_no_names(parameters: Any) -> None:
    with pytest.raises(InputError, match=r"parameters has an entry of type .*give a name or names of parameters"):
        Gradiometer(mlp(), parameters=parameters)


@pytest.mark.parametrize("parameters", ["layer4.*", ["0.weight", "head.*"], "", [], "0.WEIGHT"])
def test_globs_that_match_nothing(parameters: Any) -> None:
    with pytest.raises(InputError) as caught:
        Gradiometer(mlp(), parameters=parameters)
    if parameters:
        unknown = parameters if isinstance(parameters, str) else parameters[1]
        assert unknown in str(caught.value)
        assert "0.bias" in str(caught.value)


@pytest.mark.parametrize("memory", ["12 potatoes", "MiB", 0, -5, "-3MiB", "nan", ""])
def test_memory_that_is_no_amount(memory: Any) -> None:
    with pytest.raises(InputError, match=r"(?i)memory"):
        Gradiometer(mlp(), memory=memory)


@pytest.mark.parametrize("model", [None, "resnet20-cifar10", lambda x: x, torch.nn.Linear])
def test_models_that_are_no_modules(model: Any) -> None:
    with pytest.raises(ModelError):
        Gradiometer(model)


def test_a_model_without_parameters() -> None:
    with pytest.raises(ModelError, match="parameter"):
        Gradiometer(nn.ReLU().eval())


def test_references_with_wrong_names_or_shapes() -> None:
    model = mlp()
    meter, inputs, good = Gradiometer(model), torch.randn(3, 5), loop.random_reference(model)
    cases: list[tuple[dict[str, Any], str]] = [
        ({name: value for name, value in good.items() if name != "2.bias"}, r"2\.bias"),
        (good | {"3.weight": torch.zeros(2)}, r"3\.weight"),
        (good | {"0.weight": torch.zeros(5, 6)}, r"(?s)0\.weight.*\(5, 6\).*\(6, 5\)"),
        (good | {"0.weight": torch.zeros(30)}, r"0\.weight"),
        (good | {"0.bias": torch.full((6,), math.nan)}, r"0\.bias"),
        ({}, r"0\.weight"),
    ]
    for reference, message in cases:
        with pytest.raises(InputError, match=message):
            meter.inner_products(inputs, reference)


@pytest.mark.parametrize("reference", [None, [torch.zeros(6, 5)], {"0.weight": 1.0}], ids=["none", "list", "number"])
def test_references_that_are_no_tensors_by_name(reference: Any) -> None:
    with pytest.raises(InputError):
        Gradiometer(mlp(), parameters="0.weight").inner_products(torch.randn(3, 5), reference)


@pytest.mark.parametrize(
    "objective",
    [
        lambda outputs, inputs: outputs.sum(),
        lambda outputs, inputs: outputs,
        lambda outputs, inputs: outputs.sum(1, keepdim=True),
        lambda outputs, inputs: 1.0,
        lambda outputs, inputs: None,
        lambda outputs, inputs: outputs.sum(1) * math.nan,
    ],
    ids=["scalar", "matrix", "column", "number", "none", "nan"],
)
def test_objectives_that_return_no_value_per_sample(objective: Any) -> None:
    with pytest.raises(GradiometerError):
        Gradiometer(mlp(), objective).squared_norms(torch.randn(3, 5))


@pytest.mark.parametrize(
    "objective",
    [
        lambda outputs, _: (outputs - outputs.mean(0)).sum(1),
        lambda outputs, _: outputs.softmax(0)[:, 0],
        lambda outputs, _: outputs[:, 0].sort().values,
        lambda outputs, _: outputs[:, 0] * outputs[:, 0].roll(1),
        lambda outputs, _: nn.functional.cross_entropy(outputs, outputs.argmax(1)).expand(len(outputs)),
    ],
    ids=["centred", "softmax over the batch", "sorted", "of neighbours", "mean"],
)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_objectives_that_mix_samples(objective: Any, count: int) -> None:
    torch.manual_seed(0)
    meter = Gradiometer(mlp(), objective)
    x = torch.randn(count, 5)
    x = x[meter.model(x)[:, 0].argsort(descending=True)]  # what one of them sorts is not in order already
    with pytest.raises(InputError, match="the objective mixes samples: the gradient at row"):
        meter.squared_norms(x)


@pytest.mark.parametrize("scale", [1, 1024])
def test_large_losses_in_half_precision_are_no_mixture(scale: int) -> None:
    def objective(outputs: Tensor, _: Any) -> Tensor:
        return scale * nn.functional.cross_entropy(outputs, outputs.argmin(1), reduction="none")

    model = mlp().half()
    assert Gradiometer(model, objective).squared_norms(torch.randn(16, 5).half()).values.isfinite().all()


def test_an_objective_is_looked_at_once() -> None:
    backward = []

    def objective(outputs: Tensor, _: Any) -> Tensor:
        losses = outputs.square().sum(1)
        losses.register_hook(backward.append)
        return losses

    meter = Gradiometer(mlp(), objective)
    meter.squared_norms(torch.randn(8, 5))
    first = len(backward)
    meter.squared_norms(torch.randn(8, 5))
    assert len(backward) == first + 1
    meter.objective = lambda outputs, _: (outputs - outputs.mean(0)).sum(1)
    with pytest.raises(InputError, match="mixes samples"):
        meter.squared_norms(torch.randn(8, 5))


@pytest.mark.parametrize(
    "objective",
    [
        lambda outputs, _: nn.functional.cross_entropy(outputs, outputs.argmax(1), reduction="none"),
        lambda outputs, _: outputs.square().sum(1) * 1e-30,
        lambda outputs, _: outputs.new_ones(len(outputs)),
    ],
    ids=["cross-entropy", "small", "constant"],
)
def test_objectives_of_single_samples_are_taken(objective: Any) -> None:
    assert Gradiometer(mlp(), objective).squared_norms(torch.randn(8, 5)).values.shape == (8, 4)


@pytest.mark.parametrize("objective", ["ones", 3])
def test_objectives_that_are_none(objective: Any) -> None:
    with pytest.raises(GradiometerError):
        Gradiometer(mlp(), objective).squared_norms(torch.randn(3, 5))


def test_reconstruction_of_another_shape() -> None:
    with pytest.raises(GradiometerError, match=r"(?s)\(3, 4\).*\(3, 5\)|\(3, 5\).*\(3, 4\)"):
        Gradiometer(mlp(), Reconstruction()).squared_norms(torch.randn(3, 5))


def test_plan_without_any_shape() -> None:
    with pytest.raises(InputError, match="sample"):
        Gradiometer(mlp()).plan()


def test_readings_of_an_unknown_parameter() -> None:
    readings = Gradiometer(mlp()).squared_norms(torch.randn(3, 5))
    with pytest.raises(InputError, match=r"(?s)3\.weight.*0\.weight"):
        readings["3.weight"]


def test_activations_of_a_model_without_layers() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    with pytest.raises(ModelError, match="layer"):
        Gradiometer(Scale().eval()).activation_norms(torch.randn(3, 4))


def test_an_image_of_the_wrong_size_is_an_error_that_names_it() -> None:
    wrong = r"the model, a Sequential, fails on a batch of shape \(\d, 7\) \(RuntimeError: .*give samples of the shape"
    for read_at in (Gradiometer.squared_norms, Gradiometer.activation_norms, Gradiometer.layers, Gradiometer.plan):
        with pytest.raises(ModelError, match=wrong):
            read_at(Gradiometer(mlp()), torch.randn(3, 7))


def test_an_image_without_its_batch_is_told_what_to_do() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(18, 2)).eval()
    with pytest.raises(ModelError, match=r"one image alone as a batch of one, x\[None\]"):
        Gradiometer(model).squared_norms(torch.rand(2, 1, 5, 5)[0])


def test_no_private_error_gets_out() -> None:
    """What the parts of the instrument tell each other must not reach the user."""
    chosen = specimen("row_by_row")
    meter = Gradiometer(chosen.build())
    with suppress(GradiometerError):
        meter.activation_norms(chosen.inputs(3))
    with suppress(GradiometerError):
        meter.squared_norms(chosen.inputs(3), activations=True)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_does_not_show_the_inputs_of_its_layers() -> None:
    scripted = torch.jit.script(mlp())
    for read_at in (Gradiometer.activation_norms, lambda meter, x: meter.squared_norms(x, activations=True)):
        with pytest.raises(
            ModelError, match=r"TorchScript does not show .*give the torch.nn.Module that it was made from"
        ):
            read_at(Gradiometer(scripted), torch.randn(3, 5))
    with pytest.raises(ModelError, match="has no parameters; freezing has made constants of them"):
        Gradiometer(torch.jit.freeze(scripted))


def test_models_of_inference_mode_are_told_what_to_do() -> None:
    with torch.inference_mode():
        model = mlp()
    with pytest.raises(ModelError, match=r"'0.weight' .*torch.inference_mode\(\).*copy.deepcopy\(model\)"):
        Gradiometer(model)
    assert Gradiometer(copy.deepcopy(model)).squared_norms(torch.randn(3, 5)).values.shape == (3, 4)
    # Buffers as well: autograd may need them on the way back.
    normed = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)).eval()
    meter = Gradiometer(normed)
    with torch.inference_mode():
        normed[1].running_mean = torch.zeros(6)
    with pytest.raises(ModelError, match=r"'1\.running_mean' of the model"):
        meter.squared_norms(torch.randn(3, 5))
