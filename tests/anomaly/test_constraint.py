"""The gradient constraint and its reference, against stored gradients and a second way to differentiate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradiometer.anomaly import AnomalyRecipe, AutoEncoder, Constraint, make_network
from gradiometer.anomaly.constraint import Reference, constrained, cosines
from gradiometer.anomaly.training import _Run
from gradiometer.errors import InputError

WEIGHTS = ("decoder.0.weight", "decoder.2.weight", "decoder.4.weight", "decoder.6.weight")


def images(count: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def a_run(tmp_path: Any, network: str = "cae", **constraint: Any) -> _Run:
    recipe = AnomalyRecipe(network=network, constraint=Constraint(**constraint), batch_size=8)  # type: ignore[arg-type]
    return _Run(make_network(network, 1, 8, seed=0), recipe, tmp_path / "checkpoint.safetensors", "", "")


def test_the_constrained_parameters_are_the_weights_of_the_decoder() -> None:
    assert tuple(constrained(make_network("vae", 1, 8, seed=0), Constraint().layers)) == WEIGHTS


def test_the_reference_is_the_mean_of_the_gradients_of_the_total_loss(tmp_path: Any) -> None:
    run = a_run(tmp_path)
    stored: list[dict[str, Tensor]] = []
    for step in range(6):
        run.take(images(seed=step))
        stored.append({name: p.grad.clone().double() for name, p in run.parameters.items() if p.grad is not None})
    for name in WEIGHTS:
        expected = torch.stack([gradients[name] for gradients in stored]).mean(0)
        torch.testing.assert_close(run.reference.means[name], expected, rtol=1e-12, atol=1e-18)


def test_the_first_step_is_not_constrained(tmp_path: Any) -> None:
    constrained_run, free = a_run(tmp_path, alpha=0.03), a_run(tmp_path, alpha=0.0)
    for run in (constrained_run, free):
        run.take(images())
    assert constrained_run.sums["cosine"] == free.sums["cosine"] == 0
    assert constrained_run.sums["loss"] == constrained_run.sums["reconstruction"]
    for one, other in zip(constrained_run.network.parameters(), free.network.parameters(), strict=True):
        assert torch.equal(one, other)
    constrained_run.take(images(seed=1))
    assert constrained_run.sums["cosine"] != 0


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_only_the_direction_of_the_reference_counts(factor: float, tmp_path: Any) -> None:
    plain, scaled = a_run(tmp_path), a_run(tmp_path)
    for run in (plain, scaled):
        run.take(images())
    for mean in scaled.reference.means.values():
        mean.mul_(factor)
    for run in (plain, scaled):
        run.take(images(seed=1))
    assert scaled.sums["loss"] == pytest.approx(plain.sums["loss"], rel=1e-6)
    for one, other in zip(scaled.parameters.values(), plain.parameters.values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_the_total_loss_is_that_of_reverse_over_forward(tmp_path: Any) -> None:
    """J is differentiated twice. The other way round: the slope of L along v, by a forward pass of tangents."""
    torch.set_default_dtype(torch.float64)
    run = a_run(tmp_path, alpha=0.5)
    run.network.double()
    x = images().double()
    run.take(x)
    directions, parameters = run.reference.directions(), dict(run.network.named_parameters())
    loss = (run.network(x) - x).square().mean()
    plain = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    along = {}
    for name in WEIGHTS:
        length = plain[name].norm()
        cosine = (plain[name] * directions[name]).sum() / length
        along[name] = (directions[name] - cosine * plain[name] / length) / length
    slope = slope_along(run.network, along, x)
    bent = torch.autograd.grad(slope, list(parameters.values()), allow_unused=True)
    run.take(x)
    for (name, parameter), change in zip(parameters.items(), bent, strict=True):
        expected = plain[name] if change is None else plain[name] - 0.5 / 4 * change
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-14)


def slope_along(network: AutoEncoder, along: dict[str, Tensor], x: Tensor) -> Tensor:
    """Derivative of the reconstruction loss when the weights of the decoder move."""
    value, tangent = network.encode(x), torch.zeros(())
    for number, layer in enumerate(network.decoder):
        if isinstance(layer, torch.nn.ConvTranspose2d):

            def apply(a: Tensor, weight: Tensor, layer: Any = layer) -> Tensor:
                return F.conv_transpose2d(a, weight, None, layer.stride, layer.padding, layer.output_padding)

            moved = apply(value, along[f"decoder.{number}.weight"])
            tangent = moved if tangent.ndim == 0 else moved + apply(tangent, layer.weight)
            value = layer(value)
        elif isinstance(layer, torch.nn.ReLU):
            tangent, value = tangent * (value > 0), layer(value)
        else:
            value = layer(value)
            tangent = tangent * value * (1 - value)
    return (2 * (value - x) * tangent).mean()


def test_without_alpha_training_is_that_of_a_plain_auto_encoder(tmp_path: Any) -> None:
    run = a_run(tmp_path, alpha=0.0)
    plain = make_network("cae", 1, 8, seed=0)
    optimizer = torch.optim.Adam(plain.parameters(), 1e-3)
    for step in range(4):
        run.take(images(seed=step))
        optimizer.zero_grad()
        F.mse_loss(plain(images(seed=step)), images(seed=step)).backward()
        optimizer.step()
    for one, other in zip(run.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert run.reference.taken == 4


def test_the_cosine_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, generator=generator) for _ in range(2))
    reference = Reference({"weight": first}, Constraint())
    reference.update({"weight": second})
    expected = F.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    torch.testing.assert_close(cosines({"weight": first}, reference.directions())[0], expected)


def test_a_gradient_of_zeros_has_cosine_zero_and_asks_for_nothing() -> None:
    gradient = torch.zeros(4, requires_grad=True)
    found = cosines({"weight": gradient}, {"weight": torch.ones(4) / 2})
    assert found.tolist() == [0.0]
    assert not found.requires_grad
    untouched = Reference({"weight": gradient}, Constraint()).directions()
    assert cosines({"weight": torch.ones(4)}, untouched).tolist() == [0.0]


def test_an_exponential_mean_and_a_late_start() -> None:
    weight = {"weight": torch.zeros(1)}
    exponential = Reference(weight, Constraint(decay=0.5))
    late = Reference(weight, Constraint(start=2))
    for value in (1.0, 3.0, 5.0, 7.0):
        for reference in (exponential, late):
            reference.update({"weight": torch.tensor([value])})
    # 1, then halves: (1 + 3) / 2, (2 + 5) / 2, (3.5 + 7) / 2.
    assert exponential.means["weight"].item() == 5.25
    assert late.taken == 2
    assert late.means["weight"].item() == 6.0


def test_other_layers_can_be_constrained(tmp_path: Any) -> None:
    run = a_run(tmp_path, layers=["encoder.*.weight", "decoder.6.*"])
    for step in range(2):
        run.take(images(seed=step))
    encoder = {f"encoder.{number}.weight" for number in (0, 2, 4, 6)}
    assert set(run.reference.means) == {*encoder, "decoder.6.weight", "decoder.6.bias"}
    with pytest.raises(InputError, match="matches none"):
        a_run(tmp_path, layers="head.*")


@pytest.mark.parametrize(
    "settings", [{"alpha": -1}, {"alpha": float("nan")}, {"decay": 0.0}, {"decay": 1.5}, {"start": -1}]
)
def test_constraints_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Constraint(**settings)
