"""Gram matrices of the logits' gradients, and the squared norms that follow from them, against explicit gradients."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradiometer.errors import InputError, ModelError
from gradiometer.gradients import (
    ConfoundingLabel,
    ContrastClasses,
    Gradiometer,
    Objective,
    PseudoLabel,
    UniformTarget,
)
from gradiometer.gradients.class_grams import contrasts
from tests.gradients import loop
from tests.gradients.measure import TOLERANCE, shared_meter
from tests.zoo import ZOO, Specimen, call, select, specimen

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]

CLASSIFIERS = [each for each in ZOO if not {"reconstruction", "may_refuse"} & set(each.tags)]
DTYPES = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in TOLERANCE]


def logit(number: int) -> loop.Loss:
    """One logit as a loss."""
    return lambda z, _: z[:, number]


@cache
def explicit(name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (B, C), and the float64 gradients (B, C, size) of every logit by name of the parameter."""
    chosen = specimen(name)
    model, inputs = chosen.build(torch.float64), chosen.inputs(3, torch.float64)
    with torch.no_grad():
        logits = select(call(model, inputs), chosen.output)
    each = [loop.loop_gradients(model, inputs, logit(at), chosen.output) for at in range(logits.shape[1])]
    return logits, {name: torch.stack([loop.rows(found[name]) for found in each], 1) for name in each[0]}


def cases(classes: int) -> dict[str, tuple[Objective | loop.Loss, loop.Loss]]:
    """Labels of every kind, with the loss in a form of its own."""
    several = [1.0, 0.0, 1.0, *(0.0 for _ in range(classes - 3))] if classes > 2 else [1.0, 1.0]
    soft = torch.arange(1, classes + 1).double() / sum(range(1, classes + 1))

    def distilled(z: Tensor, _: Any) -> Tensor:
        return -(soft.to(z) * z.log_softmax(1)).sum(1)

    return {
        "ones": (ConfoundingLabel(), loop.bce_with_logits()),
        "zeros": (ConfoundingLabel("zeros"), loop.bce_with_logits([0.0] * classes)),
        "multi-hot": (ConfoundingLabel(tuple(several)), loop.bce_with_logits(several)),
        "softmax": (ConfoundingLabel(reading="softmax"), loop.bce_on_softmax),
        "uniform": (UniformTarget(), loop.uniform_target),
        "soft": (distilled, lambda z, _: z.logsumexp(1) - z @ soft),
        "one class": (ContrastClasses([1]), loop.cross_entropy(1)),
    }


def slopes(loss: loop.Loss, logits: Tensor) -> Tensor:
    """dJ/dz (B, C) by autograd in float64."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, None).sum(), leaf)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chosen", CLASSIFIERS, ids=lambda each: each.name)
def test_equal_those_of_explicit_gradients(chosen: Specimen, dtype: torch.dtype) -> None:
    """The matrices of every network of the zoo, and from them the squared norms for labels of every kind."""
    logits, gradients = explicit(chosen.name)
    grams = shared_meter(chosen.name, dtype).class_grams(chosen.inputs(3, dtype))
    assert grams.parameters == tuple(gradients)
    floor = 1e-2 if "cancels" in chosen.tags else 1e-3
    wanted = torch.stack([each @ each.mT for each in gradients.values()], 1)
    sizes = wanted.diagonal(dim1=2, dim2=3).amax(2)
    scale = sizes.clamp(min=floor**2 * float(sizes.max()))[..., None, None]
    assert ((grams.values - wanted).abs() / scale).max() <= TOLERANCE[dtype]
    for label, (objective, loss) in cases(logits.shape[1]).items():
        weights = slopes(loss, logits).unsqueeze(1)
        norms = torch.stack([(weights @ each).square().sum((1, 2)) for each in gradients.values()], 1)
        found = grams.squared_norms(objective).values.reshape(norms.shape)
        # The terms of a label may cancel to any degree, which is a property of the label; see `measure`.
        terms = [(weights.abs() @ each.norm(dim=2, keepdim=True)).flatten().square() for each in gradients.values()]
        scale = torch.maximum(norms.clamp(min=floor**2 * float(norms.max())), torch.stack(terms, 1) / 100)
        error = (found - norms).abs() / scale
        assert torch.where(found == norms, 0.0, error).max() <= TOLERANCE[dtype], label


@pytest.mark.parametrize("name", ["residual_block", "embedding_used_twice", "conv_transpose2d_output_padding"])
@pytest.mark.parametrize("objective", [ContrastClasses(), PseudoLabel(), ConfoundingLabel()])
def test_equal_the_readings_of_the_objective_itself(name: str, objective: Objective) -> None:
    chosen = specimen(name)
    model, inputs = chosen.build(torch.float64), chosen.inputs(4, torch.float64)
    found = Gradiometer(model, output=chosen.output).class_grams(inputs).squared_norms(objective)
    wanted = Gradiometer(model, objective, output=chosen.output).squared_norms(inputs)
    assert found.parameters == wanted.parameters
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-10, atol=1e-14 * float(wanted.values.max()))


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_directions_in_blocks_give_the_same(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where parameters are used twice, left to the loop, or reached by some logits only."""
    from gradiometer.gradients.peak import Need

    for name in ("residual_block", "embedding_used_twice", "half_detached", "module_used_three_times"):
        chosen = specimen(name)
        inputs = chosen.inputs(3, torch.float64)
        whole = Gradiometer(chosen.build(torch.float64)).class_grams(inputs)
        with monkeypatch.context() as patched:
            patched.setattr(Need, "parts", lambda *_: (2, block))
            parts = Gradiometer(chosen.build(torch.float64)).class_grams(inputs)
        torch.testing.assert_close(parts.values, whole.values, rtol=1e-12, atol=1e-14 * float(whole.values.max()))


def test_some_of_the_classes() -> None:
    chosen = specimen("residual_block")
    meter, inputs = Gradiometer(chosen.build(torch.float64)), chosen.inputs(3, torch.float64)
    every, some = meter.class_grams(inputs), meter.class_grams(inputs, [2, 0])
    assert some.classes == (2, 0)
    wanted = every.values[..., [2, 0], :][..., [2, 0]]
    torch.testing.assert_close(some.values, wanted, rtol=1e-10, atol=1e-14 * float(wanted.max()))
    with pytest.raises(InputError, match="depends on other logits than the 2"):
        some.squared_norms(PseudoLabel())


def test_gradients_that_all_logits_share_do_not_drown_the_differences() -> None:
    """A cross-entropy does not see a shift of all logits, however large its gradient."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.body(x).tanh()
            return self.head(hidden) + 1e5 * hidden.sum(1, keepdim=True)

    torch.manual_seed(0)
    model, inputs = Shifted().eval(), torch.randn(4, 6)
    norms = loop.squared_norms(
        loop.loop_gradients(model.double(), inputs.double(), lambda z, _: z @ z.new_tensor([1.0, 0, 0, -1]))
    )
    grams = Gradiometer(model.float()).class_grams(inputs)
    found = grams.squared_norms(lambda z, _: z[:, 0] - z[:, 3]).values
    torch.testing.assert_close(found, norms, rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["nested_sequentials", "layer_norm_on_sequences"])
def test_low_precision_models(name: str, dtype: torch.dtype) -> None:
    chosen = specimen(name)
    inputs, model = chosen.inputs(3).to(dtype), chosen.build().to(dtype)
    classes = [loop.loop_gradients(chosen.build().to(dtype).double(), inputs.double(), logit(at)) for at in range(2)]
    grams = Gradiometer(model).class_grams(inputs, [0, 1])
    assert grams.values.dtype == torch.float64
    for number, gradients in enumerate(classes):
        norms = loop.squared_norms(gradients)
        found = grams.values[:, :, number, number]
        assert ((found - norms).abs() / norms.clamp(min=1e-2 * float(norms.max()))).max() <= 8 * torch.finfo(dtype).eps


def test_tiny_gradients_are_left_to_the_loop_and_zeros_are_exact() -> None:
    """Squares of 1e-44 underflow in float32; a dead layer stays at exact zeros."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    with torch.no_grad():
        model[2].weight.mul_(1e-22)
        model[0].bias[:2] = -100.0
    inputs = torch.rand(3, 4)
    grams = Gradiometer(model).class_grams(inputs)
    wide = [loop.loop_gradients(model.double(), inputs.double(), logit(at)) for at in range(3)]
    for name in grams.parameters:
        gradients = torch.stack([loop.rows(found[name]) for found in wide], 1)
        torch.testing.assert_close(
            grams[name], gradients @ gradients.mT, rtol=1e-5, atol=1e-5 * float((gradients @ gradients.mT).max())
        )
    dead = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    nn.init.constant_(dead[0].bias, -100.0)
    values = Gradiometer(dead).class_grams(inputs)
    assert torch.equal(values["0.weight"], torch.zeros(3, 3, 3, dtype=torch.float64))
    assert torch.equal(values["2.weight"], torch.zeros(3, 3, 3, dtype=torch.float64))
    torch.testing.assert_close(values["2.bias"], torch.eye(3).double().expand(3, 3, 3), rtol=0, atol=1e-6)


def test_the_directions_are_orthogonal_and_exact_in_short_types() -> None:
    for count in (1, 2, 10, 100):
        rows = contrasts(count)
        product = rows @ rows.mT
        torch.testing.assert_close(product, product.diagonal().diag(), rtol=0, atol=1e-12)
        assert (rows.norm(dim=1) > 0.5).all()
        assert torch.equal(rows.bfloat16().double(), rows)
        assert (rows[1:].sum(1).abs() < 1e-12).all()


def test_wrong_arguments() -> None:
    chosen = specimen("residual_block")
    meter, inputs = Gradiometer(chosen.build()), chosen.inputs(3)
    for classes in ([9], [-1], [], [0, 0]):
        with pytest.raises(InputError):
            meter.class_grams(inputs, classes)
    with pytest.raises(InputError, match="no Gram matrices of 'nothing'"):
        meter.class_grams(inputs, [0])["nothing"]
    with pytest.raises(InputError, match="more than memory=1,000"):
        Gradiometer(chosen.build(), memory=1000).class_grams(inputs)
    with pytest.raises(ModelError, match="logits"):
        Gradiometer(nn.Conv2d(1, 2, 1).eval()).class_grams(torch.rand(2, 1, 3, 3))
