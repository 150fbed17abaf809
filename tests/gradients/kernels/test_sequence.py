"""The kernel for linear layers over sequences against the norm of the explicit gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradiometer.gradients import kernels

pytestmark = pytest.mark.skipif(
    kernels.missing(torch.float64) is not None or kernels.missing() is not None,
    reason=f"no kernels here: {kernels.missing()}",
)


def check(inputs: Tensor, errors: Tensor, tolerance: float) -> None:
    """A case in both roles."""
    expected = (errors.double().mT @ inputs.double()).square().sum((1, 2))
    size = inputs.double().square().sum((1, 2)) * errors.double().square().sum((1, 2))
    for found in (kernels.sequences(inputs, errors), kernels.sequences(errors, inputs)):
        assert found.shape == expected.shape
        assert ((found - expected).abs() <= tolerance * size).all()


sizes = st.integers(1, 40)


@given(st.integers(1, 4), st.integers(1, 17), sizes, sizes, st.integers(0, 99))
def test_equals_the_explicit_gradient(batch: int, positions: int, inputs: int, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(batch, positions, size, generator=generator).double() for size in (inputs, outputs)]
    check(*factors, tolerance=1e-12)
    check(*(factor.float() for factor in factors), tolerance=1e-5)


def test_factors_that_share_memory_or_lie_across() -> None:
    whole = torch.randn(3, 12, 30, dtype=torch.float64)
    errors = torch.randn(3, 1, 9, dtype=torch.float64).expand(3, 11, 9)
    check(whole[:, 1:, 3:20], errors, tolerance=1e-12)
    check(whole[:, :11, ::2], errors, tolerance=1e-12)
    check(whole.mT[:, :11], errors, tolerance=1e-12)
    check(whole[:1, :11].expand(3, -1, -1), errors, tolerance=1e-12)


def test_a_sample_does_not_depend_on_the_batch_nor_on_threads() -> None:
    inputs, errors, before = torch.randn(7, 23, 18), torch.randn(7, 23, 35), torch.get_num_threads()
    together = kernels.sequences(inputs, errors)
    assert torch.equal(together, torch.cat([kernels.sequences(inputs[[at]], errors[[at]]) for at in range(7)]))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(together, kernels.sequences(inputs, errors))
    finally:
        torch.set_num_threads(before)


def test_zeros_stay_zeros_and_nan_shows() -> None:
    inputs, errors = torch.randn(3, 7, 6), torch.randn(3, 7, 20)
    errors[0], inputs[2, 3, 1] = 0, torch.nan
    found = kernels.sequences(inputs, errors)
    assert found[0] == 0
    assert found[1] > 0
    assert found[2].isnan()


def test_an_empty_batch() -> None:
    assert kernels.sequences(torch.empty(0, 7, 6), torch.empty(0, 7, 20)).shape == (0,)
