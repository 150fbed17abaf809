"""Activation norms, the forward-only control, against hooks on the layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradiometer.gradients import Gradiometer
from tests.zoo import call, specimen

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
NAMES = (
    "mlp",
    "linear_sequence",
    "conv1d_string_same_dilated",
    "conv2d_groups_strided_dilated",
    "conv3d_plain",
    "conv_transpose2d_gradcon",
    "conv_pools_and_activations",
    "residual_block",
    "frozen_layers",
    "frames_folded_sample_major",
    "frames_folded_frame_major",
    "gru_text_classifier",
    "dict_output",
    "torchvision_resnet",
    "torchvision_densenet",
    "in_place_on_outputs",
    "conv_in_place_relu_first",
)


def by_hooks(name: str) -> dict[str, Tensor]:
    """Squared norm of the input of every linear and convolution layer that is called once, one sample at a time."""
    chosen = specimen(name)
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    found: dict[str, list[Tensor]] = {}

    def note(label: str):
        return lambda module, arguments: found.setdefault(label, []).append(arguments[0].double().square().sum())

    for label, module in model.named_modules():
        if isinstance(module, LAYERS):
            module.register_forward_pre_hook(note(f"{label}.weight"))
    with torch.no_grad():
        for position in range(3):
            call(model, inputs[position : position + 1])
    return {label: torch.stack(values) for label, values in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_activation_norms_equal_hooks(name: str, dtype: torch.dtype) -> None:
    chosen, wanted = specimen(name), by_hooks(name)
    meter = Gradiometer(chosen.build(dtype), output=chosen.output)
    readings = meter.activation_norms(chosen.inputs(3, dtype))
    assert set(wanted) <= set(readings.parameters)  # gates of recurrent layers are linear maps too, beyond the hooks
    assert readings.values.dtype == torch.float64
    together = meter.squared_norms(chosen.inputs(3, dtype), activations=True)
    assert together.layers == readings.parameters
    assert together.activations is not None
    for label in wanted:
        column = readings.parameters.index(label)
        torch.testing.assert_close(readings.values[:, column], wanted[label], rtol=1e-5, atol=1e-12)
        torch.testing.assert_close(together.activations[:, column], wanted[label], rtol=1e-5, atol=1e-12)


def test_without_being_asked_there_are_none() -> None:
    chosen = specimen("mlp")
    readings = Gradiometer(chosen.build()).squared_norms(chosen.inputs(3))
    assert readings.activations is None
    assert readings.layers == ()


def test_a_memory_limit_changes_nothing() -> None:
    chosen = specimen("residual_block")
    inputs = chosen.inputs(7)
    one = Gradiometer(chosen.build()).squared_norms(inputs, activations=True)
    many = Gradiometer(chosen.build(), memory=1).squared_norms(inputs, activations=True)
    torch.testing.assert_close(one.activations, many.activations, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["weight_norm", "row_by_row", "module_used_three_times", "scripted_submodule"])
def test_awkward_layers_have_activations_too(name: str) -> None:
    """A detector asks every model for its activations: parametrised, shared and looped layers included."""
    chosen = specimen(name)
    readings = Gradiometer(chosen.build()).squared_norms(chosen.inputs(3), activations=True)
    assert readings.activations is not None
    assert readings.activations.shape == (3, len(readings.layers))
    assert len(readings.layers) >= 1
    assert torch.isfinite(readings.activations).all()
