"""The kernels by minimal filtering against PyTorch's own gradients of images and weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradiometer import Gradiometer
from gradiometer.gradients import folding, kernels
from gradiometer.gradients.kernels import Window, library
from gradiometer.gradients.rules import costs
from tests.gradients import loop

pytestmark = pytest.mark.skipif(
    kernels.missing(torch.float64) is not None or kernels.missing() is not None,
    reason=f"no kernels here: {kernels.missing()}",
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Images, errors and the padding between them, with channels that fill one to seven vectors."""
    lanes = library.load(torch.float64).lanes() * 2
    inputs, outputs = (lanes * draw(st.integers(1, 7)) for _ in range(2))
    padding = draw(st.integers(0, 2))
    height, width = (draw(st.integers(max(1, 3 - 2 * padding), 11)) for _ in range(2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    batch = draw(st.integers(1, 5))
    shapes = (batch, inputs, height, width), (batch, outputs, height + 2 * padding - 2, width + 2 * padding - 2)
    images, errors = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return in_lines(images), in_lines(errors), padding


def in_lines(images: Tensor) -> Tensor:
    """Channels as the fastest dimension in memory, also where `channels_last` does not ask for it."""
    return images.movedim(1, 3).contiguous().movedim(3, 1)


def image_gradient(images: Tensor, errors: Tensor, weight: Tensor, padding: int) -> Tensor:
    """The native gradient of the images."""
    moves = [1, 1], [padding] * 2, [1, 1]
    mask = (True, False, False)
    return torch.ops.aten.convolution_backward(errors, images, weight, None, *moves, False, [0, 0], 1, mask)[0]


def weight_gradients(images: Tensor, errors: Tensor, padding: int) -> Tensor:
    """The gradient (B, O, C, 3, 3) of each sample alone, by PyTorch."""
    shape = (errors.shape[1], images.shape[1], 3, 3)
    pairs = zip(images, errors, strict=True)
    return torch.stack([torch.nn.grad.conv2d_weight(x[None], shape, e[None], padding=padding) for x, e in pairs])


@given(cases())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_gradients_of_images(dtype: torch.dtype, tolerance: float, case: tuple[Tensor, Tensor, int]) -> None:
    images, errors, padding = case
    weight = torch.randn(errors.shape[1], images.shape[1], 3, 3, dtype=torch.float64)
    expected = image_gradient(images, errors, weight, padding)
    found = kernels.image_gradient(images.to(dtype), errors.to(dtype), weight.to(dtype), (padding, padding))
    assert found is not None
    assert found.dtype == dtype
    assert (found - expected).norm() <= tolerance * expected.norm()


@given(cases())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_statistics_of_weights(dtype: torch.dtype, tolerance: float, case: tuple[Tensor, Tensor, int]) -> None:
    images, errors, padding = case
    expected = weight_gradients(images, errors, padding)
    reference = torch.randn(expected.shape[1:], dtype=torch.float64)
    window = Window((3, 3), (1, 1), (padding, padding), (1, 1), 1)
    images, errors = images.to(dtype), errors.to(dtype)
    assert kernels.in_tiles(images, errors, window)
    found = kernels.rows(images, errors, reference, window, magnitudes=True, totals=True, tiles=True)
    products = kernels.products(images, errors, reference, window, tiles=True)
    assert found.magnitudes is not None
    assert found.totals is not None
    assert found.products is not None
    elements, sizes = expected.flatten(2), errors.double().abs().sum((2, 3))
    for ours, theirs, size in (
        (found.squares, elements.square().sum(2), elements.square().sum(2)),
        (found.magnitudes, elements.abs().sum(2), elements.abs().sum(2)),
        (found.totals, errors.double().sum((2, 3)), sizes),
        (found.products, (elements * reference.flatten(1)).sum(2), (elements * reference.flatten(1)).abs().sum(2)),
        (products, found.products.double(), (elements * reference.flatten(1)).abs().sum(2)),
    ):
        assert ours.shape == theirs.shape == errors.shape[:2]
        assert ((ours - theirs).abs() <= tolerance * size.amax()).all()


def test_a_sample_does_not_depend_on_the_batch_nor_on_threads() -> None:
    images, errors = in_lines(torch.randn(9, 32, 10, 7)), in_lines(torch.randn(9, 48, 10, 7))
    weight, window = torch.randn(48, 32, 3, 3), Window((3, 3), (1, 1), (1, 1), (1, 1), 1)

    def found(rows: slice) -> tuple[Tensor, Tensor]:
        statistics = kernels.rows(images[rows], errors[rows], None, window, tiles=True)
        gradient = kernels.image_gradient(images[rows], errors[rows], weight, (1, 1))
        assert gradient is not None
        return statistics.squares, gradient

    together, threads = found(slice(None)), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = found(slice(None))
    finally:
        torch.set_num_threads(threads)
    alone = [torch.cat(parts) for parts in zip(*(found(slice(at, at + 1)) for at in range(9)), strict=True)]
    for one, other, third in zip(together, again, alone, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_a_part_of_larger_images() -> None:
    lanes = library.load(torch.float64).lanes()
    images = torch.randn(3, 12, 8, 4 * lanes, dtype=torch.float64).movedim(3, 1)[:, lanes : 3 * lanes, 1:9, 2:8]
    errors = torch.randn(3, 12, 8, 3 * lanes, dtype=torch.float64).movedim(3, 1)[:, lanes : 2 * lanes, 3:11, :6]
    weight = torch.randn(lanes, 2 * lanes, 3, 3, dtype=torch.float64)
    found = kernels.image_gradient(images, errors, weight, (1, 1))
    torch.testing.assert_close(found, image_gradient(images, errors, weight, 1), rtol=1e-10, atol=1e-10)
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), 1)
    squares = weight_gradients(images, errors, 1).flatten(2).square().sum(2)
    torch.testing.assert_close(kernels.rows(images, errors, None, window, tiles=True).squares, squares)


def test_nothing_but_zeros_comes_of_zeros() -> None:
    images, errors = in_lines(torch.randn(2, 32, 9, 9)), in_lines(torch.zeros(2, 16, 9, 9))
    errors[1, 3, 4, 4] = 1e-30
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), 1)
    squares = kernels.rows(images, errors, None, window, magnitudes=True, tiles=True).magnitudes
    gradient = kernels.image_gradient(images, errors, torch.randn(16, 32, 3, 3), (1, 1))
    assert squares is not None
    assert gradient is not None
    assert squares[0].eq(0).all()
    assert gradient[0].eq(0).all()
    assert squares[1].ne(0).nonzero().tolist() == [[3]]
    assert gradient[1].ne(0).any()


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("channels", lambda x: x[:, :7]),
        ("format", lambda x: x.contiguous(memory_format=torch.contiguous_format)),
        ("type", lambda x: x.bfloat16()),
    ],
)
def test_what_it_cannot_read(kind: str, changed: object) -> None:
    images, errors = (changed(in_lines(torch.randn(2, 16, 6, 6))) for _ in range(2))  # type: ignore[operator]
    assert kernels.image_gradient(images, errors, torch.randn(16, 16, 3, 3), (1, 1)) is None, kind


class Deep(nn.Module):
    """Convolutions of every kind, each with its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        kinds = ((3, 32, 1, 1, 1), (32, 32, 1, 1, 1), (32, 48, 2, 1, 1), (48, 48, 1, 2, 1), (48, 48, 1, 1, 3))
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, s, d, d, g, bias=False), nn.BatchNorm2d(o), nn.ReLU())
                for i, o, s, d, g in kinds
            ),
            nn.Sequential(nn.Conv2d(48, 64, 3, padding=0, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        )
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def test_a_network_that_goes_through_both(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Deep().double().eval()
    inputs = torch.randn(6, 3, 22, 22, dtype=torch.float64)
    monkeypatch.setattr(costs, "tiled_gradient", lambda *_: True)
    monkeypatch.setattr(costs, "seconds", lambda form, _: float(form != "winograd"))
    taken = []
    original = kernels.image_gradient

    def watched(*args: object) -> Tensor | None:
        taken.append(original(*args))  # type: ignore[arg-type]
        return taken[-1]

    monkeypatch.setattr(folding.kernels, "image_gradient", watched)
    meter = Gradiometer(model)
    meter.squared_norms(inputs)
    taken.clear()
    found = meter.squared_norms(inputs)
    assert sum(gradient is not None for gradient in taken) == 2
    assert "winograd" in {line.path for line in meter.plan().lines}
    wanted = loop.loop_gradients(model, inputs, loop.bce_with_logits())
    for name, gradients in wanted.items():
        torch.testing.assert_close(found[name], loop.squared_norms({name: gradients})[:, 0], rtol=1e-9, atol=0)
