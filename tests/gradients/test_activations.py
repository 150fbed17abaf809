"""Activation norms, the forward-only control, against hooks on the layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError
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


def pooled_by_hooks(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean over positions, and share of positions above zero, of the input of every layer, one sample at a time."""
    chosen = specimen(name)
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    means: dict[str, list[Tensor]] = {}
    shares: dict[str, list[Tensor]] = {}

    def note(label: str, spatial: int):
        def hook(module, arguments):
            channels_last = arguments[0].movedim(-1 - spatial, -1)
            rows = channels_last.reshape(-1, channels_last.shape[-1])
            means.setdefault(label, []).append(rows.mean(0))
            if spatial or len(rows) > 1:
                shares.setdefault(label, []).append((rows > 0).double().mean(0))

        return hook

    for label, module in model.named_modules():
        if isinstance(module, LAYERS):
            module.register_forward_pre_hook(note(f"{label}.weight", len(getattr(module, "kernel_size", ()))))
    with torch.no_grad():
        for position in range(3):
            call(model, inputs[position : position + 1])
    first, then = ({label: torch.stack(values) for label, values in found.items()} for found in (means, shares))
    return first, then


@pytest.mark.parametrize("name", NAMES)
def test_means_and_shares_equal_hooks(name: str) -> None:
    chosen = specimen(name)
    wanted, active = pooled_by_hooks(name)
    meter = Gradiometer(chosen.build(torch.float64), output=chosen.output)
    inputs = chosen.inputs(3, torch.float64)
    alone = meter.activation_norms(inputs, means=tuple(wanted), shares=tuple(wanted))
    together = meter.squared_norms(inputs, means=tuple(wanted), shares=tuple(wanted))
    assert set(alone.means) == set(together.means) == set(wanted)
    assert set(alone.shares) == set(together.shares) == set(active)
    for label, expected in active.items():
        torch.testing.assert_close(alone.shares[label], expected)
        torch.testing.assert_close(together.shares[label], expected)
    for label, expected in wanted.items():
        torch.testing.assert_close(alone.means[label], expected)
        torch.testing.assert_close(together.means[label], expected)
    in_parts = Gradiometer(chosen.build(torch.float64), output=chosen.output, memory=1)
    parts = in_parts.squared_norms(inputs, means=tuple(wanted), shares=tuple(active))
    for label, expected in parts.means.items():
        torch.testing.assert_close(expected, wanted[label])
    for label, expected in parts.shares.items():
        torch.testing.assert_close(expected, active[label])


def test_layers_come_in_the_order_of_their_use() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.middle, self.first = nn.Linear(3, 2), nn.Linear(3, 3), nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.middle(self.first(x.unsqueeze(1)).squeeze(1))))

    meter = Gradiometer(Backwards().eval())
    assert meter.layers(torch.randn(4, 3)) == ("first.weight", "middle.weight", "last.weight")
    with pytest.raises(InputError, match=r"no layer 'head.weight' to look into; there are: last.weight, middle"):
        meter.squared_norms(torch.randn(4, 3), means=["head.weight"])


def test_the_last_use_of_a_layer_gives_its_mean() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 3), torch.randn(5, 3)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.tanh(self.layer(x)))

    means = Gradiometer(Twice().eval()).activation_norms(x, means=["layer.weight"]).means["layer.weight"]
    torch.testing.assert_close(means, torch.tanh(layer(x)).detach())


def test_a_model_in_train_mode_is_refused_also_after_a_reading() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    meter, images = Gradiometer(model), torch.rand(3, 1, 8, 8)
    meter.activation_norms(images)
    model.train()
    with pytest.raises(ModelError, match="is in train mode"):
        meter.activation_norms(images)


def test_parameters_without_a_layer_have_no_activations() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).eval()
    with pytest.raises(ModelError, match=r"among the parameters that are read.*activations=False"):
        Gradiometer(model, parameters="*.bias").activation_norms(torch.rand(2, 4))
