"""Random geometries against the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gradiometer.gradients import Gradiometer
from tests.gradients import loop
from tests.gradients.measure import STATISTICS, relative_errors
from tests.specimens.convolutions import PooledHead
from tests.specimens.sequences import weighted

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
EXAMPLES = settings(max_examples=40)


def agree(model: nn.Module, inputs: Tensor) -> None:
    """Compares all four statistics with the loop, in float64."""
    model = model.double().eval()
    wanted = loop.loop_gradients(model, inputs, loop.bce_with_logits())
    meter = Gradiometer(model)
    for statistic in STATISTICS:
        if statistic == "gradients":
            found: Any = meter.gradients(inputs)
        elif statistic == "inner_products":
            found = meter.inner_products(inputs, loop.random_reference(model)).values
        else:
            found = getattr(meter, statistic)(inputs).values
        assert relative_errors(found, wanted, statistic, 1e-2).max() <= 1e-9, statistic


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution of any geometry, transposed or not, and images that it can take."""
    dimensions, transposed = draw(st.integers(1, 3)), draw(st.booleans())

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=dimensions, max_size=dimensions)))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel, stride, dilation = each(1, 4 if dimensions < 3 else 2), each(1, 3), each(1, 2)
    size = each(1, 7 if dimensions < 3 else 4)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if transposed:
        padding = tuple(draw(st.integers(0, extent)) for extent in reach)
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        options |= {"padding": padding, "output_padding": extra}
        lengths = [
            (n - 1) * s - 2 * p + r + e + 1 for n, s, p, r, e in zip(size, stride, padding, reach, extra, strict=True)
        ]
    else:
        string = draw(st.sampled_from([None, None, "same", "valid"]))
        padding = string if string is not None else each(0, 3)
        if string == "same":
            options["stride"] = 1
        options["padding"] = padding
        added = reach if string == "same" else [0] * dimensions if string else [2 * p for p in padding]
        lengths = [n + a - r for n, a, r in zip(size, added, reach, strict=True)]
    assume(all(length >= 1 for length in lengths))
    name = f"Conv{'Transpose' if transposed else ''}{dimensions}d"
    torch.manual_seed(draw(st.integers(0, 1000)))
    model = PooledHead(getattr(nn, name)(channels, outputs, kernel, **options), outputs)
    return model, torch.randn(draw(st.integers(1, 4)), channels, *size, dtype=torch.float64)


@EXAMPLES
@given(case=convolutions())
def test_convolutions_of_any_geometry(case: tuple[nn.Module, Tensor]) -> None:
    agree(*case)


class OnSequences(nn.Module):
    """Linear layers on inputs with any number of dimensions between the batch and the features."""

    def __init__(self, features: int, hidden: int, bias: bool, between: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden, bias=bias)
        self.last = nn.Linear(hidden, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        h = self.last(torch.tanh(self.first(x)))
        for _ in range(self.between):
            h = weighted(h)
        return h


@EXAMPLES
@given(
    batch=st.integers(1, 5),
    between=st.lists(st.integers(1, 5), max_size=3),
    features=st.integers(1, 6),
    hidden=st.integers(1, 6),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_linear_layers_on_any_sequence(
    batch: int, between: list[int], features: int, hidden: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    model = OnSequences(features, hidden, bias, len(between))
    agree(model, torch.randn(batch, *between, features, dtype=torch.float64))


NORMS = ("layer", "layer over two", "rms", "group", "instance", "batch")


@EXAMPLES
@given(
    kind=st.sampled_from(NORMS),
    batch=st.integers(1, 4),
    channels=st.sampled_from([4, 6]),
    length=st.integers(3, 6),
    affine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_norms_of_any_size(kind: str, batch: int, channels: int, length: int, affine: bool, seed: int) -> None:
    torch.manual_seed(seed)
    norm = {
        "layer": lambda: nn.LayerNorm(length, elementwise_affine=affine),
        "layer over two": lambda: nn.LayerNorm((channels, length), elementwise_affine=affine),
        "rms": lambda: nn.RMSNorm(length, elementwise_affine=affine),
        "group": lambda: nn.GroupNorm(2, channels, affine=affine),
        "instance": lambda: nn.InstanceNorm1d(channels, affine=affine),
        "batch": lambda: nn.BatchNorm1d(channels, affine=affine),
    }[kind]()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    model = PooledHead(nn.Sequential(norm, nn.Conv1d(channels, 3, 2)), 3)
    agree(model, torch.randn(batch, channels, length, dtype=torch.float64))


@settings(max_examples=15)
@given(order=st.permutations(range(5)), seed=st.integers(0, 100))
def test_permuting_the_batch_permutes_the_readings(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    model = PooledHead(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()), 3).double().eval()
    inputs = torch.randn(5, 2, 5, 5, dtype=torch.float64)
    meter = Gradiometer(model)
    straight, permuted = meter.squared_norms(inputs).values, meter.squared_norms(inputs[order]).values
    torch.testing.assert_close(permuted, straight[order], rtol=1e-12, atol=1e-15)
