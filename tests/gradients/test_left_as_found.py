"""The user's model, inputs and surroundings are left exactly as they were found."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import GradiometerError
from gradiometer.gradients import ConfoundingLabel, ContrastClasses, Gradiometer, Reconstruction
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, meter_of
from tests.zoo import Inputs, Specimen, specimen

NAMES = (
    "residual_block",
    "frozen_layers",
    "wholly_frozen",
    "weight_norm",
    "weight_norm_by_hooks",
    "spectral_norm_and_orthogonal",
    "embedding_used_twice",
    "lstm_two_layers_both_ways",
    "transformer_encoder_square",
    "hooks_that_rewrite_tensors",
    "forward_replaced_on_the_instance",
    "row_by_row",
    "unused_parameters",
    "instance_norm2d_running_statistics",
    "dropout_in_eval",
    "autoencoder",
)


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a guest could change, with values copied."""
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        own = vars(module)
        state[f"{name}: attributes"] = sorted(own)
        state[f"{name}: training"] = module.training
        state[f"{name}: type"] = type(module)
        for key, value in own.items():
            if "hooks" in key and isinstance(value, dict):
                state[f"{name}: {key}"] = [(number, id(hook)) for number, hook in value.items()]
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[f"{name}: identity"] = (id(tensor), tensor.data_ptr(), tensor.dtype, tensor.requires_grad, type(tensor))
        state[f"{name}: values"] = tensor.detach().clone().numpy().tobytes()
        state[f"{name}: notes"] = sorted(vars(tensor)) if hasattr(tensor, "__dict__") else []
        state[f"{name}: hooks"] = (dict(tensor._backward_hooks or {}), tensor.grad_fn)
        gradient = tensor.grad
        state[f"{name}: grad"] = None if gradient is None else (id(gradient), gradient.clone().numpy().tobytes())
    return state


def surroundings() -> dict[str, Any]:
    """Modes and random states of the process."""
    modules = torch.nn.modules.module
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002 - the state of the legacy generator is the point
        "random": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "mkldnn": torch.backends.mkldnn.flags is not None and torch._C._get_mkldnn_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "sdp": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        "threads": torch.get_num_threads(),
        "global hooks": [
            len(getattr(modules, key)) for key in sorted(vars(modules)) if key.startswith("_global") and "hooks" in key
        ],
        "functions": (nn.functional.linear, nn.functional.conv2d, nn.Module.__call__, torch.Tensor.backward),
    }


def read(meter: Gradiometer, statistic: str, inputs: Inputs) -> Any:
    if statistic == "inner_products":
        return meter.inner_products(inputs, loop.random_reference(meter.model))
    return getattr(meter, statistic)(inputs)


def objective_of(chosen: Specimen) -> Any:
    return Reconstruction() if "reconstruction" in chosen.tags else ConfoundingLabel()


def assert_untouched(model: nn.Module, work: Callable[[], object]) -> None:
    """Runs some work and compares everything before and after."""
    before, around = fingerprint(model), surroundings()
    work()
    after, later = fingerprint(model), surroundings()
    for key in before.keys() | after.keys():
        assert before.get(key) == after.get(key), key
    for key, value in around.items():
        assert value == later[key], key


@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms", "plan"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_changes(name: str, statistic: str) -> None:
    chosen = specimen(name)
    model, inputs = chosen.build(), chosen.inputs(3)
    meter: list[Gradiometer] = []

    def work() -> None:
        meter.append(Gradiometer(model, objective_of(chosen), output=chosen.output))
        read(meter[0], statistic, inputs)
        read(meter[0], statistic, inputs)

    assert_untouched(model, work)


def test_gradients_of_the_owner_survive() -> None:
    """A training loop between backward() and step() keeps its gradients, and can go on."""
    chosen = specimen("residual_block")
    model, inputs = chosen.build(), chosen.inputs(3)
    model(inputs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert_untouched(model, lambda: Gradiometer(model, ContrastClasses()).squared_norms(inputs))


def test_hooks_of_the_owner_stay_and_still_run() -> None:
    chosen = specimen("residual_block")
    model, inputs = chosen.build(), chosen.inputs(3)
    calls: list[str] = []
    model.head.register_forward_hook(lambda *_: calls.append("forward"))
    model.head.register_forward_pre_hook(lambda *_: calls.append("before"))
    model.head.register_full_backward_hook(lambda *_: None)
    next(model.parameters()).register_hook(lambda gradient: gradient * 1000.0)
    wanted = loop.squared_norms(loop.loop_gradients(chosen.build(), inputs, loop.bce_with_logits()))
    found: list[Tensor] = []
    assert_untouched(model, lambda: found.append(Gradiometer(model).squared_norms(inputs).values))
    assert "forward" in calls
    assert "before" in calls
    torch.testing.assert_close(found[0][:, 1:], wanted[:, 1:], rtol=1e-4, atol=1e-9)


class Breaks(nn.Module):
    """Raises half-way through its forward, from the n-th call on, or in its backward."""

    def __init__(self, calls: int, where: str = "forward") -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 5))
        self.last = nn.Linear(5, 4)
        self.calls, self.where = calls, where
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        self.calls -= 1
        self.count += 1
        if self.calls < 0 and self.where == "forward":
            raise KeyboardInterrupt if self.calls < -1000 else ValueError("the sensor was unplugged")
        if self.calls < 0 and h.requires_grad:
            h.register_hook(unplugged)
        return self.last(h)


def unplugged(gradient: Tensor) -> Tensor:
    raise ValueError("the sensor was unplugged")


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5, 7, 9])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_after_an_exception_half_way(statistic: str, calls: int, where: str) -> None:
    torch.manual_seed(0)
    model = Breaks(calls, where).eval()
    inputs = torch.randn(3, 1, 4, 4)

    def work() -> None:
        meter = Gradiometer(model)
        for _ in range(8):
            read(meter, statistic, inputs)

    def fails() -> None:
        with pytest.raises((ValueError, RuntimeError), match="unplugged"):
            work()

    assert_untouched(model, fails)
    model.calls = 10_000
    model.count.zero_()
    wanted = loop.squared_norms(loop.loop_gradients(model, inputs, loop.bce_with_logits()))
    torch.testing.assert_close(Gradiometer(model).squared_norms(inputs).values, wanted, rtol=1e-4, atol=1e-9)


def test_after_an_objective_that_raises() -> None:
    chosen = specimen("residual_block")
    model, inputs = chosen.build(), chosen.inputs(3)

    def objective(outputs: Tensor, _: Any) -> Tensor:
        raise ValueError("no label today")

    def fails() -> None:
        with pytest.raises(ValueError, match="no label today"):
            Gradiometer(model, objective).squared_norms(inputs)

    assert_untouched(model, fails)


def test_after_an_interrupt() -> None:
    """Ctrl-C is no Exception; the model is left as found all the same."""
    model = Breaks(0).eval()
    model.calls = -2000
    inputs = torch.randn(3, 1, 4, 4)

    def fails() -> None:
        with pytest.raises(KeyboardInterrupt):
            Gradiometer(model).squared_norms(inputs)

    assert_untouched(model, fails)


@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["residual_block", "gru_text_classifier", "row_by_row", "transformer_encoder_square"])
def test_inside_no_grad_and_inference_mode(name: str, mode: Any, statistic: str) -> None:
    chosen = specimen(name)
    model = chosen.build()
    outside = read(Gradiometer(model), statistic, chosen.inputs(3))

    def work() -> None:
        with mode():
            inside = read(Gradiometer(model), statistic, chosen.inputs(3))
            assert torch.is_grad_enabled() is False
        pairs = (
            [(inside[key], outside[key]) for key in outside]
            if isinstance(outside, dict)
            else [(inside.values, outside.values)]
        )
        for one, two in pairs:
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-12)

    assert_untouched(model, work)


def test_inputs_are_left_as_found() -> None:
    chosen = specimen("residual_block")
    inputs = chosen.inputs(3).requires_grad_(True)
    copy, notes = inputs.detach().clone(), dict(vars(inputs))
    Gradiometer(chosen.build()).squared_norms(inputs)
    assert inputs.requires_grad
    assert inputs.grad is None
    assert vars(inputs) == notes
    torch.testing.assert_close(inputs.detach(), copy, rtol=0, atol=0)


def test_inputs_that_the_model_overwrites() -> None:
    """A model that normalises its input in place must not ruin the reading, nor pass it on from one run to the next."""

    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x.sub_(1.0).mul_(0.5)
            return self.head(x)

    model = Overwrites().eval()
    inputs = torch.randn(3, 4)
    wanted = (inputs - 1.0) * 0.5
    readings = Gradiometer(model).squared_norms(inputs.clone())
    slopes = torch.sigmoid(-(wanted @ model.head.weight.T + model.head.bias)) / 3
    expected = slopes.square().sum(1) * wanted.square().sum(1)
    torch.testing.assert_close(readings["head.weight"].float(), expected.detach(), rtol=1e-4, atol=1e-9)


class Counts(nn.Module):
    """Counts its calls in buffers: one changed in place, one replaced by a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.in_place += 1
        self.replaced = self.replaced + 1
        return self.head(x)


def test_buffers_that_the_forward_changes() -> None:
    model, inputs = Counts().eval(), torch.randn(3, 4)
    assert_untouched(model, lambda: Gradiometer(model).squared_norms(inputs))


class Casts(nn.Module):
    """Calls methods of its parameters that return the very same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.register_buffer("mask", torch.ones(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.contiguous().to(x.dtype).float().view_as(self.weight)
        self.weight.requires_grad_(self.weight.requires_grad)
        return x @ (weight * self.mask.contiguous()).T


def test_no_notes_on_parameters() -> None:
    model, inputs = Casts().eval(), torch.randn(3, 4)
    assert_untouched(model, lambda: Gradiometer(model).squared_norms(inputs))


def test_the_model_can_still_be_trained_saved_and_copied(tmp_path: Any) -> None:
    import copy

    chosen = specimen("residual_block")
    model, inputs = chosen.build(), chosen.inputs(3)
    meter = Gradiometer(model)
    meter.squared_norms(inputs)
    copy.deepcopy(model)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(inputs).square().sum().backward()
    optimiser.step()
    model.eval()
    wanted = loop.squared_norms(loop.loop_gradients(model, inputs, loop.bce_with_logits()))
    torch.testing.assert_close(meter.squared_norms(inputs).values, wanted, rtol=1e-4, atol=1e-9)


def test_a_refusal_leaves_no_trace() -> None:
    model, inputs = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train(), torch.randn(3, 4)

    def fails() -> None:
        with pytest.raises(GradiometerError):
            Gradiometer(model).squared_norms(inputs)

    assert_untouched(model, fails)


@pytest.mark.parametrize("how", ["wrapped", "in place", "inside"])
def test_compiled_models_are_read_without_their_compiled_code(how: str) -> None:
    chosen = specimen("residual_block")
    model, inputs = chosen.build(), chosen.inputs(3)
    expected = Gradiometer(model).squared_norms(inputs)
    if how == "wrapped":
        model = torch.compile(model)
    else:
        (model if how == "in place" else next(model.children())).compile()
    found = Gradiometer(model).squared_norms(inputs)
    assert found.parameters == expected.parameters
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["residual_block", "weight_norm", "lstm_two_layers_both_ways", "autoencoder"])
@pytest.mark.parametrize("statistic", [*STATISTICS, "activation_norms"])
def test_nothing_waits_for_the_garbage_collector(name: str, statistic: str) -> None:
    """Tensors in a circle of references would fill the memory until Python comes round to looking for circles."""
    chosen = specimen(name)
    meter, x = meter_of(chosen, torch.float32), chosen.inputs()
    arguments = ({key: torch.ones_like(value) for key, value in meter.model.named_parameters()},)

    def read() -> None:
        getattr(meter, statistic)(x, *(arguments if statistic == "inner_products" else ()))

    read()  # the plan
    gc.collect()
    gc.disable()
    try:
        read()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        circles = [type(each).__name__ for each in gc.garbage if isinstance(each, Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not circles


class ScriptCounts(nn.Module):
    """Replaces a buffer in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return self.layers(x)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, torch.rand(2, 1, 5, 5))])
@pytest.mark.parametrize("layers", ["all", "inner"])
def test_torchscript_with_batch_norm_is_read_and_left_as_found(make: Any, layers: str) -> None:
    torch.manual_seed(0)
    whole = ScriptCounts().eval()
    model, x = whole if layers == "all" else whole.layers, torch.rand(6, 1, 5, 5)
    expected = Gradiometer(model).squared_norms(x).values
    scripted = make(model)
    before = {name: value.clone() for name, value in scripted.state_dict().items()}
    torch.testing.assert_close(Gradiometer(scripted).squared_norms(x).values, expected)
    assert scripted.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in scripted.state_dict().items())
