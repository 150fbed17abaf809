"""Every form of every rule by itself: the plan's own check against the loop must not be what makes it right.

A rule that is wrong would be left to the loop and go unnoticed in the readings. So each form is forced here, small
chunks included, and the plan must say that it was used.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradiometer.gradients import Gradiometer, factors, kernels
from gradiometer.gradients.rules import correlation, costs
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, expected, measured, meter_of, relative_errors, shared_meter
from tests.specimens.convolutions import CONVOLUTIONS
from tests.zoo import ZOO, Specimen, specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
]

LAYERS = [each for each in CONVOLUTIONS if each.name.startswith("conv") and each.name[4].isdigit()]
LAYERS += [each for each in CONVOLUTIONS if each.name.startswith("conv_transpose") and "output_size" not in each.name]

NEED_THE_LOOP = {
    "adaptive_softmax",
    "checkpointed_block",
    "conv_called_without_batch",
    "conv_dynamic_batch_in_groups",
    "custom_autograd_function",
    "deformable_convolution",
    "einsum_matmul_baddbmm_addmm",
    "elementwise_zoo",
    "embedding_bag_max",
    "embedding_bag_mean",
    "embedding_bag_offsets",
    "embedding_bag_weighted_sum",
    "flipped_batch",
    "forward_replaced_on_the_instance",
    "fourier_filter",
    "gradient_inside_the_forward",
    "gru_packed_sequences",
    "halves_of_the_batch",
    "layer_scale_and_zero_gate",
    "mixture_of_experts",
    "parameters_copied_in_place",
    "parameters_outside_their_module",
    "positions_through_a_layer",
    "positions_through_a_layer_square",
    "raw_scale_shift_and_scalar",
    "row_by_row",
    "scripted_submodule",
    "transformer_encoder_batch_first",
    "transformer_encoder_sequence_first",
    "transformer_encoder_square",
}
"""Networks of which some parameter may be left to the loop; a rule that learns to read one may take it off the list."""


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One or two samples at a time everywhere, so that the seams between chunks are tested too."""
    monkeypatch.setattr(factors, "CHUNK", 512)
    monkeypatch.setattr(correlation, "CHUNK", 512)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("form", ["offsets", "groups", "gram", "kernel"])
@pytest.mark.parametrize("chosen", LAYERS, ids=lambda each: each.name)
def test_each_form_of_a_convolution(chosen: Specimen, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "seconds", lambda candidate, task: float(candidate != form))
    meter, inputs = meter_of(chosen, torch.float64), chosen.inputs(dtype=torch.float64)
    for statistic in STATISTICS:
        found = measured(meter, inputs, statistic)
        assert relative_errors(found, expected(chosen.name), statistic, 1e-2).max() <= 1e-10, statistic
    (line,) = [each for each in meter.plan().lines if each.parameter == "body.weight"]
    assert line.path == form or line.path.startswith("pixels") or (form == "kernel" and _without_kernel(chosen))


def _without_kernel(chosen: Specimen) -> bool:
    """Whether there is no compiler, or the kernel has no images to read."""
    return kernels.missing(torch.float64) is not None or "3d" in chosen.name


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "name",
    [
        "linear_sequence",
        "linear_long_sequence",
        "bilinear_sequence",
        "embedding",
        "embedding_used_twice",
        "embedding_tied_to_decoder_module",
        "module_used_three_times",
        "module_at_three_resolutions",
        "batch_norm2d",
        "layer_norm_on_sequences",
        "group_norm",
        "prelu_per_channel",
        "attention_other_widths",
        "lstm_two_layers_both_ways",
        "frames_folded_frame_major",
        "weight_norm",
        "hyper_network",
    ],
)
def test_small_chunks(name: str) -> None:
    chosen = specimen(name)
    meter, inputs = meter_of(chosen, torch.float64), chosen.inputs(dtype=torch.float64)
    for statistic in STATISTICS:
        found = measured(meter, inputs, statistic)
        assert relative_errors(found, expected(name), statistic, 1e-2).max() <= 1e-10, statistic


@pytest.mark.parametrize("chosen", [e for e in ZOO if e.name not in NEED_THE_LOOP], ids=lambda each: each.name)
def test_no_rule_hides_behind_the_loop(chosen: Specimen) -> None:
    looped = [
        line.parameter
        for line in shared_meter(chosen.name, torch.float32).plan(chosen.inputs()).lines
        if line.path == "loop"
    ]
    assert looped == []


class Scaled(nn.Module):
    """A layer with tiny (or huge) gradients and ordinary outputs, between ordinary layers.

    For a scale s > 1 the layer's own parameters are divided by s beforehand, so that its outputs stay what they are.
    """

    def __init__(self, layer: nn.Module, scale: float, features: int) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        self.head = nn.Linear(features, 4)
        if scale > 1:
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.div_(scale)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h = h[0] if isinstance(h, tuple) else h
        h = torch.tanh(h * self.scale)
        while h.ndim > 2:
            h = (h * torch.linspace(0.5, 2.0, h.shape[-1]).to(h)).sum(-1)
        return self.head(h)


EXTREME = {
    "linear": (lambda: nn.Linear(5, 6), (5,), 6),
    "linear sequence": (lambda: nn.Linear(7, 7), (6, 7), 6),
    "convolution": (lambda: nn.Conv2d(2, 6, 3), (2, 5, 5), 6),
    "wide convolution": (lambda: nn.Conv2d(24, 32, 3, padding=1), (24, 2, 2), 32),
    "large map": (lambda: nn.Conv2d(2, 6, 3), (2, 12, 12), 6),
    "transposed convolution": (lambda: nn.ConvTranspose2d(2, 6, 3), (2, 4, 4), 6),
    "batch norm": (lambda: nn.BatchNorm2d(6), (6, 3, 3), 6),
    "layer norm": (lambda: nn.LayerNorm(7), (6, 7), 6),
    "group norm": (lambda: nn.GroupNorm(2, 6), (6, 3, 3), 6),
    "prelu": (lambda: nn.PReLU(6), (6, 3, 3), 6),
    "bilinear": (lambda: Twice(), (5,), 6),
}


class Twice(nn.Module):
    """A bilinear form of an input with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.form = nn.Bilinear(5, 5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x, x)


@pytest.mark.parametrize("scale", [1e-25, 1e22])
@pytest.mark.parametrize("kind", EXTREME)
def test_squares_neither_underflow_nor_overflow(kind: str, scale: float) -> None:
    """float32 gradients of 1e-25 (or 1e22) have squares that float32 cannot hold; the readings can."""
    factory, shape, features = EXTREME[kind]
    torch.manual_seed(0)
    model = Scaled(factory(), scale, features).eval()
    inputs = torch.randn(3, *shape)
    torch.manual_seed(0)
    twin = Scaled(factory(), scale, features).double().eval()
    twin.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    wanted = loop.loop_gradients(twin, inputs.double(), loop.bce_with_logits())
    meter = Gradiometer(model)
    names = [name for name in wanted if name.startswith("layer.")]
    readings = meter.squared_norms(inputs)
    for name in names:
        each = loop.squared_norms({name: wanted[name]})[:, 0]
        torch.testing.assert_close(readings[name], each, rtol=1e-4, atol=0)
        total = loop.absolute_sums({name: wanted[name]})[:, 0]
        torch.testing.assert_close(meter.absolute_sums(inputs)[name], total, rtol=1e-4, atol=0)


def norms_by_loop(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    wanted = loop.loop_gradients(model, inputs, loop.bce_with_logits())
    return {name: value[:, 0] for name, value in ((n, loop.squared_norms({n: g})) for n, g in wanted.items())}


LARGE = {
    "more positions than one product adds up": (nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3), 22, "offsets"),
    "a row of kernel elements that is dilated": (nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, dilation=2), 8, "offsets"),
    "a depthwise kernel on a large map": (nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 5, padding=2, groups=6), 14, "groups"),
    "a depthwise kernel with strides": (nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, 2, 1, groups=6), 29, "groups"),
    "a patch Gram matrix of a lopsided kernel": (
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(4, 8, (2, 3), padding="valid"),
        6,
        "gram",
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_forms_that_small_networks_do_not_reach(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, layer, size, form = LARGE[kind]
    monkeypatch.setattr(costs, "seconds", lambda candidate, task: float(candidate != form))
    torch.manual_seed(0)
    head = nn.Sequential(nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * layer.out_channels, 4))
    model = nn.Sequential(first, nn.Tanh(), layer, head).double().eval()
    inputs = torch.randn(3, 3, size, size, dtype=torch.float64)
    meter = Gradiometer(model)
    readings = meter.squared_norms(inputs)
    for name, wanted in norms_by_loop(model, inputs).items():
        torch.testing.assert_close(readings[name], wanted, rtol=1e-10, atol=0, msg=name)
    assert meter.plan().program.channels_last
    assert {line.parameter: line.path for line in meter.plan().lines}["2.weight"] == form


class OverPositions(nn.Module):
    """A linear layer on a long sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(200, 220), nn.Linear(220, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(x)).mean(1))


@pytest.mark.parametrize("form", ["gram", "kernel"])
@pytest.mark.parametrize("positions", [47, 96, 101])
def test_half_of_a_gram_matrix_is_enough(positions: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "gram":
        monkeypatch.setattr(kernels, "fits", lambda *_: False)
    elif kernels.missing(torch.float64) is not None:
        pytest.skip(f"no kernels here: {kernels.missing(torch.float64)}")
    torch.manual_seed(0)
    model = OverPositions().double().eval()
    inputs = torch.randn(3, positions, 200, dtype=torch.float64)
    meter = Gradiometer(model)
    torch.testing.assert_close(
        meter.squared_norms(inputs)["inner.weight"], norms_by_loop(model, inputs)["inner.weight"], rtol=1e-10, atol=0
    )
    assert {line.parameter: line.path for line in meter.plan().lines}["inner.weight"] == form


class Viewed(nn.Module):
    """An image that is taken apart with `view`, which needs the memory format it was made in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 5, 3), nn.Linear(5 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.layer(x))
        return self.head(h.view(len(h), -1))


def test_a_model_that_needs_its_own_memory_format_keeps_it() -> None:
    torch.manual_seed(0)
    model = Viewed().double().eval()
    inputs = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    meter = Gradiometer(model)
    readings = meter.squared_norms(inputs)
    for name, wanted in norms_by_loop(model, inputs).items():
        torch.testing.assert_close(readings[name], wanted, rtol=1e-10, atol=0, msg=name)
    assert not meter.plan().program.channels_last
    assert "loop" not in {line.path for line in meter.plan().lines}


class RelativePositions(nn.Module):
    """A parameter that is looked up, then added to an activation: its gradient is asked for when all uses are known."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 2))
        self.head = nn.Linear(4, 4)
        self.register_buffer("index", torch.arange(16).view(4, 4) % 7)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("bic,bjc->bij", x, x).unsqueeze(1) + self.table[self.index].permute(2, 0, 1).unsqueeze(0)
        return self.head(scores.softmax(-1).square().sum(2).flatten(1)[:, :4])


def test_a_derived_parameter_is_not_left_to_the_loop() -> None:
    torch.manual_seed(0)
    model, inputs = RelativePositions().double().eval(), torch.randn(3, 4, 5, dtype=torch.float64)
    meter = Gradiometer(model)
    torch.testing.assert_close(meter.squared_norms(inputs)["table"], norms_by_loop(model, inputs)["table"])
    assert "loop" not in {line.path for line in meter.plan().lines}


class Functional(nn.Module):
    """Norms as torch itself has them, whose arguments stand in another order than those of functional."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.head = kind, nn.Conv2d(3, 4, 3, bias=False), nn.Linear(4, 5)
        self.scale, self.shift = nn.Parameter(torch.rand(4) + 0.5), nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("variance", torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.batch_norm if self.kind == "batch" else torch.instance_norm
        found = norm(self.conv(x), self.scale, self.shift, self.mean, self.variance, False, 0.1, 1e-5, False)
        return self.head(found.relu().mean((2, 3)))


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_norms_of_torch_itself_are_not_left_to_the_loop(kind: str) -> None:
    torch.manual_seed(0)
    model, inputs = Functional(kind).double().eval(), torch.randn(3, 3, 6, 6, dtype=torch.float64)
    meter, reference = Gradiometer(model), norms_by_loop(model, inputs)
    found = meter.squared_norms(inputs)
    for name, _ in model.named_parameters():
        torch.testing.assert_close(found[name], reference[name])
    assert "loop" not in {line.path for line in meter.plan().lines}
