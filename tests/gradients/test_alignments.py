"""Inner products and squared norms from one pass are those of two passes, on every network of the zoo."""

from __future__ import annotations

import pytest
import torch

from gradiometer.gradients import ContrastClasses, Gradiometer
from tests.gradients.measure import meter_of
from tests.zoo import ZOO, Specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


@pytest.mark.parametrize("chosen", ZOO, ids=lambda chosen: chosen.name)
def test_one_pass_gives_what_two_give(chosen: Specimen) -> None:
    meter, x = meter_of(chosen, torch.float64), chosen.inputs(dtype=torch.float64)
    named = dict(meter.model.named_parameters())
    generator = torch.Generator().manual_seed(3)
    reference = {
        name: torch.randn(named[name].shape, generator=generator, dtype=torch.float64) for name in meter.parameters
    }
    products, squares = meter.alignments(x, reference)
    torch.testing.assert_close(products.values, meter.inner_products(x, reference).values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(squares.values, meter.squared_norms(x).values, rtol=1e-9, atol=1e-12)
    assert products.parameters == squares.parameters == meter.parameters


def test_several_labels_have_their_own_statistics() -> None:
    torch.manual_seed(0)
    # In float64: products with gradients that add up to zero are nothing but rounding.
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double().eval()
    meter, x = Gradiometer(model, ContrastClasses(), memory="64KiB"), torch.randn(7, 4, dtype=torch.float64)
    reference = {name: torch.ones_like(value) for name, value in model.named_parameters()}
    products, squares = meter.alignments(x, reference)
    assert products.values.shape == squares.values.shape == (7, 3, 4)
    torch.testing.assert_close(products.values, meter.inner_products(x, reference).values)
    torch.testing.assert_close(squares.values, meter.squared_norms(x).values)


def test_gradients_beyond_float32_are_read_again() -> None:
    """Squares of gradients of 1e25 leave the range of float32; the loop reads them in float64."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[1].weight.mul_(1e25)
    meter, x = Gradiometer(model, lambda outputs, inputs: outputs.sum(1)), torch.randn(4, 2)
    reference = {name: torch.ones_like(value) for name, value in model.named_parameters()}
    products, squares = meter.alignments(x, reference)
    assert torch.isfinite(squares.values).all()
    assert squares["0.weight"].min() > 1e38
    torch.testing.assert_close(squares.values, meter.squared_norms(x).values)
    torch.testing.assert_close(products.values, meter.inner_products(x, reference).values, rtol=1e-5, atol=0)
