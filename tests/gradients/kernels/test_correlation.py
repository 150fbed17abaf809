"""The kernel for convolutions against PyTorch's own weight gradient, a sample at a time."""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradiometer.gradients import kernels
from gradiometer.gradients.kernels import Window

pytestmark = pytest.mark.skipif(
    kernels.missing(torch.float64) is not None or kernels.missing() is not None,
    reason=f"no kernels here: {kernels.missing()}",
)

PLAIN = Window((3, 3), (1, 1), (1, 1), (1, 1), 1)


def weight_gradients(inputs: Tensor, errors: Tensor, window: Window, shape: tuple[int, ...]) -> Tensor:
    """The gradient (B, *shape) of each sample alone, by PyTorch."""
    return torch.stack(
        [
            torch.nn.grad.conv2d_weight(
                one[None], shape, error[None], window.stride, window.padding, window.dilation, window.groups
            )
            for one, error in zip(inputs, errors, strict=True)
        ]
    )


def check(inputs: Tensor, errors: Tensor, window: Window, tolerance: float) -> None:
    """All four statistics of a case, and the products alone."""
    shape = (errors.shape[1], inputs.shape[1] // window.groups, *window.kernel)
    reference = torch.randn(shape, dtype=inputs.dtype)
    expected = weight_gradients(inputs.double(), errors.double(), window, shape).flatten(2)
    found = kernels.rows(inputs, errors, reference, window, magnitudes=True, totals=True)
    assert found.magnitudes is not None
    assert found.totals is not None
    assert found.products is not None
    products = expected * reference.double().flatten(1)
    for name, ours, theirs, size in (
        ("squares", found.squares, expected.square().sum(2), expected.square().sum(2)),
        ("magnitudes", found.magnitudes, expected.abs().sum(2), expected.abs().sum(2)),
        ("totals", found.totals, errors.double().sum((2, 3)), errors.double().abs().sum((2, 3))),
        ("products", found.products, products.sum(2), products.abs().sum(2)),
        ("alone", kernels.products(inputs, errors, reference, window), products.sum(2), products.abs().sum(2)),
    ):
        assert ours.shape == theirs.shape == errors.shape[:2], name
        assert ((ours - theirs).abs() <= tolerance * size.amax()).all(), name


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Window]:
    """Images, errors and a window that fits them, in odd sizes."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(pair)
    reach = [(size - 1) * gap + 1 for size, gap in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, size - 1)) for size in reach)
    groups, inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 40))
    height, width = (draw(st.integers(max(1, size - 2 * pad), 9)) for size, pad in zip(reach, padding, strict=True))
    batch = draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    images = torch.randn(batch, groups * inputs, height, width, generator=generator, dtype=torch.float64)
    rows, columns = (
        (size + 2 * pad - far) // step + 1
        for size, pad, far, step in zip((height, width), padding, reach, stride, strict=True)
    )
    errors = torch.randn(batch, groups * outputs, rows, columns, generator=generator, dtype=torch.float64)
    fastest = draw(st.sampled_from([torch.channels_last, torch.contiguous_format]))
    window = Window(kernel, stride, padding, dilation, groups)
    return images.contiguous(memory_format=fastest), errors.contiguous(memory_format=fastest), window


@given(cases())
def test_equals_the_weight_gradient(case: tuple[Tensor, Tensor, Window]) -> None:
    check(*case, tolerance=1e-12)


@given(cases())
def test_single_precision(case: tuple[Tensor, Tensor, Window]) -> None:
    inputs, errors, window = case
    check(inputs.float(), errors.float(), window, tolerance=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 31, 33])
def test_every_size_of_a_tile(channels: int) -> None:
    inputs, errors = torch.randn(2, channels, 5, 6).double(), torch.randn(2, 65 - channels, 5, 6).double()
    check(inputs, errors, PLAIN, tolerance=1e-12)


def test_errors_that_share_memory() -> None:
    """The gradient of a mean over positions is one number for all of them."""
    inputs = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    errors = torch.randn(3, 5, 1, 1, dtype=torch.float64).expand(3, 5, 6, 6)
    check(inputs, errors, PLAIN, tolerance=1e-12)
    check(inputs[:1].expand(3, -1, -1, -1), errors, PLAIN, tolerance=1e-12)


def test_a_part_of_larger_images() -> None:
    inputs = torch.randn(3, 10, 12, 8, dtype=torch.float64).movedim(3, 1)[:, 1:6, 2:8, ::2]
    errors = torch.randn(3, 6, 6, 20, dtype=torch.float64).movedim(3, 1)[:, 3:14]
    check(inputs, errors, PLAIN, tolerance=1e-12)


def test_a_sample_does_not_depend_on_the_batch() -> None:
    inputs, errors = torch.randn(9, 6, 8, 8), torch.randn(9, 20, 8, 8)
    together = kernels.rows(inputs, errors, None, PLAIN).squares
    alone = torch.cat([kernels.rows(inputs[[at]], errors[[at]], None, PLAIN).squares for at in range(9)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kind", ["kernel", "depthwise", "tiles"])
def test_inputs_serve_the_errors_of_several_labels(kind: str, samples: int) -> None:
    groups, tiles = 16 if kind == "depthwise" else 1, kind == "tiles"
    window = replace(PLAIN, groups=groups)
    inputs, errors = torch.randn(samples, 16, 9, 9), torch.randn(5 * samples, 16, 9, 9)
    reference = torch.randn(16, 16 // groups, 3, 3)
    shared = kernels.rows(inputs, errors, reference, window, magnitudes=True, totals=True, tiles=tiles)
    copied = kernels.rows(
        inputs.repeat(5, 1, 1, 1), errors, reference, window, magnitudes=True, totals=True, tiles=tiles
    )
    for name in ("squares", "magnitudes", "totals", "products"):
        assert torch.equal(getattr(shared, name), getattr(copied, name)), name


def test_threads_change_nothing() -> None:
    inputs, errors, before = torch.randn(5, 6, 8, 8), torch.randn(5, 70, 8, 8), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(kernels.rows(inputs, errors, None, PLAIN).squares)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_zeros_stay_zeros_and_nan_shows() -> None:
    inputs, errors = torch.randn(3, 4, 6, 6), torch.randn(3, 5, 6, 6)
    errors[0], inputs[2, 1, 3, 3] = 0, torch.nan
    squares = kernels.rows(inputs, errors, None, PLAIN).squares
    assert (squares[0] == 0).all()
    assert (squares[1] > 0).all()
    assert squares[2].isnan().all()


def test_an_empty_batch() -> None:
    found = kernels.rows(torch.empty(0, 4, 6, 6), torch.empty(0, 5, 6, 6), None, PLAIN, totals=True)
    assert found.squares.shape == (0, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="guarded pages are asked for as on Linux")
@pytest.mark.parametrize("outputs", [1, 3, 12, 16, 17, 40])
def test_nothing_behind_the_errors_is_touched(outputs: int) -> None:
    """A page that may not be read lies right behind the last error: reading there would end this process."""
    inputs = torch.randn(2, 3, 4, 5)
    errors = torch.randn(2, 4, 5, outputs)
    size = errors.numel() * errors.element_size()
    room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, room + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    guard = ctypes.c_void_p(start + room), ctypes.c_size_t(mmap.PAGESIZE)
    assert libc.mprotect(*guard, 0) == 0
    try:
        guarded = torch.frombuffer(pages, dtype=torch.float32, count=errors.numel(), offset=room - size)
        guarded = guarded.view(errors.shape).copy_(errors).movedim(3, 1)
        found = kernels.rows(inputs, guarded, None, PLAIN, totals=True)
    finally:
        assert libc.mprotect(*guard, mmap.PROT_READ | mmap.PROT_WRITE) == 0
    plain = kernels.rows(inputs, errors.movedim(3, 1), None, PLAIN, totals=True)
    assert torch.equal(found.squares, plain.squares)
    assert found.totals is not None
    assert plain.totals is not None
    assert torch.equal(found.totals, plain.totals)


@pytest.mark.parametrize("change", ["float16", "other types", "sparse", "meta"])
def test_what_it_cannot_read_is_left_to_other_forms(change: str) -> None:
    images = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert kernels.fits(*images)
    inputs, errors = {
        "float16": (images[0].half(), images[1].half()),
        "other types": (images[0].double(), images[1]),
        "sparse": (images[0].to_sparse(), images[1]),
        "meta": (images[0].to("meta"), images[1].to("meta")),
    }[change]
    assert not kernels.fits(inputs, errors)


def test_windows_beyond_the_edge() -> None:
    """Dilated windows of which most elements lie outside of the image."""
    inputs, errors = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 4, 2, 2).double()
    check(inputs, errors, replace(PLAIN, padding=(4, 4), dilation=(4, 4)), tolerance=1e-12)


@pytest.mark.parametrize("channels", [2, 3, 7, 8, 15, 16, 17, 24, 31, 33, 49])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 4), (5, 5), (3, 7), (2, 11)])
def test_depthwise_convolutions(channels: int, kernel: tuple[int, int]) -> None:
    window = Window(kernel, (1, 2), (kernel[0] // 2, kernel[1] // 2), (1, 1), channels)
    inputs = torch.randn(2, channels, 9, 13).double()
    shape = [
        (s + 2 * p - k) // d + 1 for s, p, k, d in zip((9, 13), window.padding, kernel, window.stride, strict=True)
    ]
    errors = torch.randn(2, channels, *shape).double()
    check(inputs, errors, window, tolerance=1e-12)
    check(inputs.float(), errors.float(), window, tolerance=1e-5)


def test_depthwise_channels_of_larger_images() -> None:
    inputs = torch.randn(3, 6, 7, 40, dtype=torch.float64).movedim(3, 1)[:, 5:26]
    errors = torch.randn(3, 21, 1, 1, dtype=torch.float64).expand(3, 21, 6, 7)
    check(inputs, errors, replace(PLAIN, groups=21), tolerance=1e-12)
