"""How far the instrument is from the loop: the one definition of error that the tests and the report share.

For each parameter tensor and sample of a network the error is `|ours - loop| / scale`. The loop always runs in
float64, for the float32 check as well: the weights and inputs of a specimen are float32 numbers cast to float64, so
both runs see the same network and only the rounding of the instrument is measured, never that of the loop. The scale
is the loop's own value, with a floor where that value is next to nothing:

* squared norms: `max(|loop|, floor**2 * L)`, with L the largest squared norm of that network and a floor of 1e-3;
* absolute sums: `max(|loop|, floor * L)`, with L the largest absolute sum: the same floor for a linear statistic;
* inner products: as absolute sums, and at least a hundredth of `sum |g_j r_j|`: the terms of an inner product may
  cancel to any degree, which is a property of the reference and not of the instrument;
* gradients: the Euclidean norm of the difference, over the norm of the loop's gradient with the linear floor.

Networks tagged `cancels` have parameters whose gradient is zero in exact arithmetic (a bias before an instance norm):
what any implementation returns for them is the rounding error of much larger terms. Their floor is 1e-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gradiometer.gradients import ConfoundingLabel, Gradiometer, Reconstruction
from tests.gradients import loop
from tests.zoo import Specimen, specimen

STATISTICS = ("squared_norms", "absolute_sums", "inner_products", "gradients")
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


@dataclass(frozen=True)
class Error:
    """The worst relative error of one statistic on one network, and where it is."""

    value: float
    parameter: str
    sample: int


def loss_of(chosen: Specimen) -> loop.Loss:
    """The loop's loss for a specimen."""
    return loop.reconstruction if "reconstruction" in chosen.tags else loop.bce_with_logits()


def meter_of(chosen: Specimen, dtype: torch.dtype, **options: Any) -> Gradiometer:
    """The instrument on a specimen."""
    objective = Reconstruction() if "reconstruction" in chosen.tags else ConfoundingLabel()
    return Gradiometer(chosen.build(dtype), objective, output=chosen.output, **options)


@cache
def expected(name: str) -> loop.Gradients:
    """The gradients of the float64 loop, computed once for each specimen."""
    chosen = specimen(name)
    model = chosen.build(torch.float64)
    return loop.loop_gradients(model, chosen.inputs(dtype=torch.float64), loss_of(chosen), chosen.output)


@cache
def shared_meter(name: str, dtype: torch.dtype) -> Gradiometer:
    """One instrument for all four statistics: a plan is made once and then used again, as in real work."""
    return meter_of(specimen(name), dtype)


def measured(meter: Gradiometer, inputs: Any, statistic: str) -> Tensor | dict[str, Tensor]:
    """Reads one statistic: values (B, T), or the gradients by name."""
    if statistic == "gradients":
        return meter.gradients(inputs)
    arguments = (loop.random_reference(meter.model),) if statistic == "inner_products" else ()
    return getattr(meter, statistic)(inputs, *arguments).values


def relative_errors(found: Any, gradients: loop.Gradients, statistic: str, floor: float) -> Tensor:
    """(B, T) relative errors against the gradients of the loop, as defined above."""
    if statistic == "gradients":
        difference = [loop.rows(found[name]) - loop.rows(wanted) for name, wanted in gradients.items()]
        distance = torch.stack([each.norm(dim=1) for each in difference], 1)
        norms = loop.squared_norms(gradients).sqrt()
        return _ratio(distance, norms.clamp(min=floor * float(norms.max())))
    if statistic == "inner_products":
        reference = reference_like(gradients)
        wanted = loop.inner_products(gradients, reference)
        terms = torch.stack([loop.rows(g).abs() @ reference[n].abs().flatten() for n, g in gradients.items()], 1)
        scale = torch.maximum(wanted.abs().clamp(min=floor * float(wanted.abs().max())), terms / 100)
    else:
        wanted = getattr(loop, statistic)(gradients)
        power = 2 if statistic == "squared_norms" else 1
        scale = wanted.clamp(min=floor**power * float(wanted.max()))
    return _ratio((found - wanted).abs(), scale)


def worst(name: str, statistic: str, dtype: torch.dtype) -> Error:
    """Measures one statistic on one specimen."""
    chosen, gradients = specimen(name), expected(name)
    found = measured(shared_meter(name, dtype), chosen.inputs(dtype=dtype), statistic)
    errors = relative_errors(found, gradients, statistic, 1e-2 if "cancels" in chosen.tags else 1e-3)
    position = int(errors.argmax())
    sample, column = divmod(position, errors.shape[1])
    return Error(float(errors.flatten()[position]), list(gradients)[column], sample)


def reference_like(gradients: loop.Gradients) -> dict[str, Tensor]:
    """The reference of `loop.random_reference`, drawn for the shapes of the gradients, in float64."""
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(g.shape[1:], generator=generator).double() for name, g in gradients.items()}


def _ratio(distance: Tensor, scale: Tensor) -> Tensor:
    """Distance over scale; 0 / 0 is 0, NaN counts as infinitely wrong."""
    return torch.where(distance == 0, 0.0, distance / scale).nan_to_num(nan=float("inf"))
