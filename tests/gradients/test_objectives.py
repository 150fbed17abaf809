"""The objectives against closed forms that never form the difference of two nearly equal numbers."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import InputError
from gradiometer.gradients import (
    ConfoundingLabel,
    ContrastClasses,
    Gradiometer,
    Objective,
    PseudoLabel,
    RandomContrasts,
    Reconstruction,
    UniformTarget,
)
from tests.gradients import loop
from tests.zoo import specimen

LOGITS = torch.tensor(
    [[0.0, 0.0, 0.0, 0.0], [2.0, -1.0, 0.5, 3.0], [-30.0, 25.0, 0.0, 1.0], [60.0, -50.0, 10.0, 59.0]],
    dtype=torch.float64,
)


class Identity(nn.Module):
    """Logits z + bias: the gradient of the bias is dJ/dz itself."""

    def __init__(self, classes: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes, dtype=dtype))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.bias


def slopes(objective: Objective, logits: Tensor) -> Tensor:
    """dJ/dz of every sample."""
    return Gradiometer(Identity(logits.shape[1], logits.dtype).eval(), objective).gradients(logits)["bias"]


def exact(rule: str, z: list[float], label: list[float]) -> list[float]:
    """dJ/dz by multiple precision arithmetic, from the formulas of the literature."""
    with mpmath.workdps(120):
        exponentials = [mpmath.e ** mpmath.mpf(value) for value in z]
        p = [value / sum(exponentials) for value in exponentials]
        s = [1 / (1 + mpmath.e ** (-mpmath.mpf(value))) for value in z]
        count = len(z)
        if rule == "A":
            values = [(s_k - y_k) / count for s_k, y_k in zip(s, label, strict=True)]
        elif rule == "B":
            values = [count * p_k - 1 for p_k in p]
        elif rule == "C":
            values = [p_k - mpmath.mpf(1) / count for p_k in p]
        else:
            values = [p_k - y_k for p_k, y_k in zip(p, label, strict=True)]
        return [float(value) for value in values]


def onehot(label: int, classes: int = 4) -> list[float]:
    return [float(k == label) for k in range(classes)]


CLOSED: dict[str, tuple[Objective, str, list[float]]] = {
    "A ones": (ConfoundingLabel(), "A", [1.0] * 4),
    "A zeros": (ConfoundingLabel("zeros"), "A", [0.0] * 4),
    "A multi-hot": (ConfoundingLabel((0.0, 1.0, 1.0, 0.0)), "A", [0.0, 1.0, 1.0, 0.0]),
    "B": (ConfoundingLabel(reading="softmax"), "B", [1.0] * 4),
    "C": (UniformTarget(), "C", [0.25] * 4),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_of_the_slopes(name: str) -> None:
    objective, rule, label = CLOSED[name]
    wanted = torch.tensor([exact(rule, row.tolist(), label) for row in LOGITS], dtype=torch.float64)
    # Loss A keeps every digit of every entry; B and C are differences by nature, so digits relative to one suffice.
    absolute = 0.0 if rule == "A" else 1e-14
    torch.testing.assert_close(slopes(objective, LOGITS), wanted, rtol=1e-12, atol=absolute)


def test_pseudo_label_and_contrast_classes_keep_every_digit() -> None:
    predicted = LOGITS.argmax(1).tolist()
    wanted = [exact("CE", row.tolist(), onehot(label)) for row, label in zip(LOGITS, predicted, strict=True)]
    torch.testing.assert_close(
        slopes(PseudoLabel(), LOGITS), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0
    )
    every = slopes(ContrastClasses(), LOGITS)
    assert every.shape == (4, 4, 4)
    for label in range(4):
        exactly = [exact("CE", row.tolist(), onehot(label)) for row in LOGITS]
        torch.testing.assert_close(every[:, label], torch.tensor(exactly, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CLOSED)
def test_slopes_equal_autograd_of_the_loss(name: str) -> None:
    """The same by the losses of the loop: `binary_cross_entropy_with_logits` and its kin, differentiated."""
    objective, rule, label = CLOSED[name]
    loss = {"A": loop.bce_with_logits(label), "B": loop.bce_on_softmax, "C": loop.uniform_target}[rule]
    moderate = LOGITS[:2]
    wanted = loop.loop_gradients(Identity(4).eval(), moderate, loss)["bias"]
    torch.testing.assert_close(slopes(objective, moderate), wanted, rtol=1e-12, atol=1e-15)


def test_the_loss_is_torch_s_binary_cross_entropy_with_logits() -> None:
    z = LOGITS[1:2].clone().requires_grad_(True)
    nn.functional.binary_cross_entropy_with_logits(z, torch.ones_like(z)).backward()
    torch.testing.assert_close(slopes(ConfoundingLabel(), LOGITS[1:2]), z.grad, rtol=1e-12, atol=0)


def test_published_energies_of_the_head() -> None:
    """Sum over k of s(-z_k)^2 for ten classes: 2.50 at zero, 2.25 at (10, 0 x 9), 5.09 with zero mean."""
    rows = torch.zeros(3, 10, dtype=torch.float64)
    rows[1:, 0] = 10.0
    rows[2, 1:] = -10 / 9
    energies = 100 * slopes(ConfoundingLabel(), rows).square().sum(1)
    torch.testing.assert_close(energies, torch.tensor([2.50, 2.25, 5.09]).double(), rtol=0, atol=5e-3)


def test_one_hot_gradients_sum_to_those_of_the_softmax_reading() -> None:
    chosen = specimen("residual_block")
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    summed = Gradiometer(model, ContrastClasses()).gradients(inputs)
    together = Gradiometer(model, ConfoundingLabel(reading="softmax")).gradients(inputs)
    for name, gradient in together.items():
        torch.testing.assert_close(summed[name].sum(1), gradient, rtol=1e-9, atol=1e-12)


def test_multi_hot_with_all_ones_is_all_ones() -> None:
    chosen = specimen("residual_block")
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    for reading in ("logits", "softmax"):
        ones = Gradiometer(model, ConfoundingLabel(reading=reading)).squared_norms(inputs).values
        for label in ((1.0, 1.0, 1.0, 1.0), (1, 1, 1, 1), torch.ones(4), torch.ones(4, dtype=torch.int64)):
            multi_hot = ConfoundingLabel(label, reading=reading)
            assert torch.equal(Gradiometer(model, multi_hot).squared_norms(inputs).values, ones)


@pytest.mark.parametrize("label", [(0.0, 1.0, 0.0), torch.tensor([0, 0, 1]), [1.0, 0.0]])
def test_exactly_one_hot_is_refused(label: object) -> None:
    with pytest.raises(InputError, match="one"):
        ConfoundingLabel(label)


@pytest.mark.parametrize(
    ("label", "reading"),
    [
        ((0.5, 1.0, 1.0), "logits"),
        ((-1.0, 1.0, 1.0), "logits"),
        ((math.nan, 1.0, 1.0), "logits"),
        ("all", "logits"),
        ("ones", "sigmoid"),
    ],
)
def test_labels_that_are_no_labels(label: object, reading: str) -> None:
    with pytest.raises(InputError):
        ConfoundingLabel(label, reading=reading)


def test_a_label_of_another_length() -> None:
    with pytest.raises(InputError, match=r"3.*4|4.*3"):
        Gradiometer(specimen("dead_relu").build(), ConfoundingLabel((1.0, 1.0, 0.0))).squared_norms(torch.randn(2, 5))


@pytest.mark.parametrize("classes", [3, "3", [0.5], ["a"], torch.tensor(3)])
def test_classes_that_are_no_numbers_of_classes(classes: Any) -> None:
    with pytest.raises(InputError, match=r"classes is .*; give a sequence of class numbers, such as \(3,\)"):
        ContrastClasses(classes)
    with pytest.raises(InputError, match="give a sequence of class numbers"):
        Gradiometer(specimen("dead_relu").build()).class_grams(torch.randn(2, 5), classes)


@pytest.mark.parametrize("classes", [[1, 3], np.array([1, 3]), torch.tensor([1, 3]), range(1, 4, 2)])
def test_classes_in_any_sequence(classes: Any) -> None:
    assert ContrastClasses(classes) == ContrastClasses((1, 3))


@pytest.mark.parametrize("label", [3, 0.5, None, ["a"]])
def test_labels_that_are_no_sequences(label: Any) -> None:
    with pytest.raises(InputError, match=r"label is .*; give 'ones', 'zeros' or a sequence"):
        ConfoundingLabel(label)


@pytest.mark.parametrize("classes", [[4], [-1], [0, 7], []])
def test_classes_that_do_not_exist(classes: list[int]) -> None:
    with pytest.raises(InputError):
        Gradiometer(specimen("dead_relu").build(), ContrastClasses(classes)).squared_norms(torch.randn(2, 5))


@pytest.mark.parametrize(
    "objective", [ConfoundingLabel(), ConfoundingLabel(reading="softmax"), PseudoLabel(), UniformTarget()]
)
def test_last_linear_layer_in_closed_form(objective: Objective) -> None:
    """||dJ/dW||^2 = ||dJ/dz||^2 ||h||^2 and ||dJ/db||^2 = ||dJ/dz||^2."""
    torch.manual_seed(3)
    head = nn.Linear(6, 5).double().eval()
    features = torch.randn(4, 6, dtype=torch.float64)
    readings = Gradiometer(head, objective).squared_norms(features)
    slope = slopes(objective, readings.outputs).square().sum(1)
    torch.testing.assert_close(readings["bias"], slope, rtol=1e-12, atol=0)
    torch.testing.assert_close(readings["weight"], slope * features.square().sum(1), rtol=1e-12, atol=0)


def test_gradnorm_and_exgrad_in_closed_form() -> None:
    """||.||_1 of the head's weight is ||h||_1 sum |C p - 1| under loss B and 2 ||h||_1 p (1 - p) under each class."""
    torch.manual_seed(3)
    head = nn.Linear(6, 5).double().eval()
    features = torch.randn(4, 6, dtype=torch.float64)
    p, size = head(features).softmax(1).detach(), features.abs().sum(1)
    found = Gradiometer(head, ConfoundingLabel(reading="softmax")).absolute_sums(features)["weight"]
    torch.testing.assert_close(found, size * (5 * p - 1).abs().sum(1), rtol=1e-12, atol=0)
    each = Gradiometer(head, ContrastClasses()).absolute_sums(features)["weight"]
    torch.testing.assert_close(each, 2 * size.unsqueeze(1) * (1 - p), rtol=1e-12, atol=0)
    weighted = (p * each).sum(1)
    torch.testing.assert_close(weighted, 2 * size * (p * (1 - p)).sum(1), rtol=1e-12, atol=0)


class Confident(nn.Module):
    """Features pass through a frozen-looking body, then logits get a fixed offset that makes them certain."""

    def __init__(self, offset: list[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.head = nn.Linear(4, len(offset), bias=False)
        self.register_buffer("offset", torch.tensor(offset))
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) * 0.1 + self.offset


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [5.0, 20.0, 50.0, 110.0, 170.0, 300.0])
def test_confident_logits_never_underflow(gap: float, dtype: torch.dtype) -> None:
    """Pseudo-label at a logit gap of 110: the gradient is 1e-48, its square 1e-96, and both are exact."""
    logits = torch.tensor([[gap, 0.0, 0.0, 0.0, 0.0]], dtype=dtype)
    meter = Gradiometer(Identity(5, dtype).eval(), PseudoLabel())
    square = meter.squared_norms(logits).values.item()
    assert square > 0
    assert math.log(square) == pytest.approx(loop.log_confident_norm(gap, 5), rel=1e-6)
    total = meter.absolute_sums(logits).values.item()
    assert math.log(total) == pytest.approx(math.log(8) - gap - math.log1p(4 * math.exp(-gap)), rel=1e-6)
    reference = {"bias": torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0], dtype=dtype)}
    product = meter.inner_products(logits, reference).values.item()
    assert math.log(product) == pytest.approx(-gap - math.log1p(4 * math.exp(-gap)), rel=1e-6)


@pytest.mark.parametrize("objective", ["pseudo", "ones", "contrast"])
def test_a_gap_of_110_through_a_whole_network(objective: str) -> None:
    """float32 readings of a certain network against the float64 loop: relative digits at 1e-96, body included."""
    offset = [110.0, 110.0, 110.0] if objective == "ones" else [110.0, 0.0, 0.0]
    torch.manual_seed(1)
    model = Confident(offset, torch.float32).eval()
    inputs = torch.randn(3, 3)
    torch.manual_seed(1)
    twin = Confident(offset, torch.float64).eval()
    twin.load_state_dict(model.state_dict())
    kinds = {
        "pseudo": (PseudoLabel(), loop.pseudo_label),
        "ones": (ConfoundingLabel(), loop.bce_with_logits()),
        "contrast": (ContrastClasses([0]), loop.cross_entropy(0)),
    }
    chosen, loss = kinds[objective]
    wanted = loop.loop_gradients(twin, inputs.double(), loss)
    found = Gradiometer(model, chosen).squared_norms(inputs).values.reshape(3, -1)
    assert (loop.squared_norms(wanted) < 1e-90).all()
    # A logit of 110 has a spacing of 8e-6 in float32, which exp() turns into a relative error of the gradient.
    torch.testing.assert_close(found, loop.squared_norms(wanted), rtol=1e-3, atol=0)


def test_reconstruction_in_closed_form() -> None:
    """dJ/dy = 2 (y - x) / n for the mean squared error of one sample."""
    torch.manual_seed(2)
    decoder = nn.Linear(6, 6).double().eval()
    x = torch.randn(4, 6, dtype=torch.float64)
    slope = (2 * (decoder(x) - x) / 6).detach()
    readings = Gradiometer(decoder, Reconstruction()).squared_norms(x)
    torch.testing.assert_close(readings["bias"], slope.square().sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(readings["weight"], slope.square().sum(1) * x.square().sum(1), rtol=1e-12, atol=0)


def test_outputs_of_one_number_for_each_sample() -> None:
    """A regression network that returns (B,), as many do."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double().eval()
    x = torch.randn(4, 3, dtype=torch.float64)
    readings = Gradiometer(model, lambda outputs, inputs: 3 * outputs).squared_norms(x)
    torch.testing.assert_close(readings["0.bias"], torch.full((4,), 9.0, dtype=torch.float64))
    torch.testing.assert_close(readings["0.weight"], 9 * x.square().sum(1))


def test_own_objective_sees_outputs_and_inputs() -> None:
    def objective(outputs: Tensor, inputs: Tensor) -> Tensor:
        return (outputs[:, 0] * inputs[:, 1]).exp()

    torch.manual_seed(2)
    head = nn.Linear(3, 2).double().eval()
    x = torch.randn(4, 3, dtype=torch.float64)
    z = (head(x)[:, 0] * x[:, 1]).detach()
    readings = Gradiometer(head, objective).squared_norms(x)
    torch.testing.assert_close(readings["bias"], (z.exp() * x[:, 1]).square(), rtol=1e-12, atol=0)


def test_random_contrasts_estimate_the_mean_over_the_contrast_classes() -> None:
    """For 200 classes: unbiased, and no further off than the stated `sqrt(2 / N)` allows, for every parameter."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 200)).double().eval()
    inputs = torch.randn(3, 6, dtype=torch.float64)
    wanted = Gradiometer(model, ContrastClasses()).squared_norms(inputs).values.mean(1)
    meter = Gradiometer(model)
    for draws in (16, 256):
        ratios = []
        for seed in range(20):
            meter.objective = RandomContrasts(draws, seed)
            values = meter.squared_norms(inputs).values
            assert values.shape == (3, draws, 4)
            ratios.append(values.mean(1) / wanted)
        found = torch.stack(ratios)
        bound = (2 / draws) ** 0.5
        # Standard deviation of 20 seeds, with room for the chance in it (a fifth, three times over).
        assert (found.std(0) <= 1.5 * bound).all()
        assert ((found.mean(0) - 1).abs() <= 4 * bound / 20**0.5).all()


def test_draws_of_random_contrasts() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64)
    first, second = RandomContrasts(3).seeds(logits, None), RandomContrasts(3).seeds(logits, None)
    assert torch.equal(first, second)
    assert not torch.equal(first, RandomContrasts(3, seed=1).seeds(logits, None))
    # Every contrast sums to zero, so does every combination.
    torch.testing.assert_close(first.sum(2), torch.zeros(3, 4).double(), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="draws is 0; give a whole number of 1"):
        RandomContrasts(0)
