"""The gradient constraint: the gradients of normal images are to point where those before them pointed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.arguments import chosen_parameters
from gradiometer.gradients.factors import exact

SMALLEST = 1e-12
"""Length of a gradient below which it has no direction: its cosine is 0 and asks for no change."""

DECODER = "decoder.*.weight"
"""The weights of the decoder's convolutions, as published."""

_UNIT = 1e-6
"""How far the length of a stored unit vector may be from 1 by rounding."""


@dataclass(frozen=True)
class Constraint:
    """How gradients are constrained in training: `J = L - alpha mean_i cos(dL/dw_i, R_i)`.

    The defaults are those of the release of Kwon et al., "Backpropagated Gradient Representations for Anomaly
    Detection", ECCV 2020: R_i is the mean of `dJ/dw_i` over all steps before, and begins with the first one.

    Attributes:
        alpha: Weight of the mean cosine; with 0 the reference is kept, and asks for nothing.
        layers: Globs of the constrained parameters.
        decay: 1 for the mean over all steps; below 1 what an exponential mean keeps at each step.
        start: Steps before the mean begins; until then nothing is asked for.

    Raises:
        InputError: A setting is out of range.
    """

    alpha: float = 0.03
    layers: str | Sequence[str] = DECODER
    decay: float = 1.0
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        given.number("alpha", self.alpha, "a number of 0 or more", least=0)
        given.number("decay", self.decay, "a number above 0 and not above 1", above=0, most=1)
        given.whole("start", self.start, 0)


class Reference:
    """The running mean of gradients, R, which new gradients are compared with.

    It is held in float64, so that the mean of a million steps is still exact, and carries no graph.

    Args:
        parameters: The constrained parameters by name.
        constraint: How the mean is taken.

    Attributes:
        means: The mean of each parameter's gradient, by name; zeros before the first one.
        steps: Steps that were seen.
    """

    def __init__(self, parameters: Mapping[str, Tensor], constraint: Constraint) -> None:
        self.means = {name: exact(torch.zeros_like(value, requires_grad=False)) for name, value in parameters.items()}
        self.steps = 0
        self._constraint = constraint

    @property
    def taken(self) -> int:
        """Gradients in the mean; there is no direction before the first one."""
        return max(0, self.steps - self._constraint.start)

    def update(self, gradients: Mapping[str, Tensor]) -> None:
        """Take the gradients of the total loss of one step into the mean."""
        self.steps += 1
        if not self.taken:
            return
        # An exponential mean begins as the plain one, so that the first gradient does not stay for long.
        share = max(1 / self.taken, 1 - self._constraint.decay)
        for name, mean in self.means.items():
            mean.lerp_(exact(gradients[name].detach()), share)

    def directions(self) -> dict[str, Tensor]:
        """The mean as unit vectors, by name; zeros where it has no length."""
        return {name: _unit(mean) for name, mean in self.means.items()}

    def restore(self, means: Mapping[str, Tensor], steps: int) -> None:
        """Continue from what an earlier run had."""
        self.steps = steps
        for name, mean in self.means.items():
            mean.copy_(means[name])


def constrained(network: nn.Module, layers: str | Sequence[str]) -> dict[str, Tensor]:
    """The parameters that globs name.

    Raises:
        InputError: A glob names none.
    """
    return chosen_parameters(network, layers)


def cosines(gradients: Mapping[str, Tensor], directions: Mapping[str, Tensor]) -> Tensor:
    """Cosine between the gradient of each parameter and its reference, which can be differentiated.

    Args:
        gradients: Gradients by name.
        directions: Unit vectors by name, as `Reference.directions` gives them.

    Returns:
        (L,) in [-1, 1] and in the order of the directions; 0 for a gradient or a reference without length.

    Example:
        >>> ones = {"weight": torch.ones(4)}
        >>> cosines(ones, {"weight": torch.tensor([0.0, 1.0, 0.0, 0.0])})
        tensor([0.5000])
    """
    found = []
    for name, direction in directions.items():
        gradient = gradients[name]
        square = gradient.square().sum()
        # The square root has no slope at 0, and the angle of a vector without length means nothing.
        if square.detach() < SMALLEST**2:
            found.append(torch.zeros_like(square))
        else:
            found.append((gradient * direction.to(gradient)).sum() / square.sqrt())
    return torch.stack(found)


def unit_vectors(reference: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The unit vectors of a reference, after checking that there is one for each parameter.

    Args:
        reference: A gradient of each parameter, by name; only its direction counts.
        parameters: The constrained parameters, by name.

    Returns:
        Unit vectors in the shape, on the device and of the type of the parameters.

    Raises:
        InputError: The reference does not fit the parameters.
        ModelError: It is zero everywhere.
    """
    missing, strange = sorted({*parameters} - {*reference}), sorted({*reference} - {*parameters})
    if missing or strange:
        what = f"lacks {missing[0]!r}" if missing else f"holds {strange[0]!r}, which is not among the layers"
        raise InputError(f"the reference {what}; give the mean gradient of each of {', '.join(parameters)}")
    units = {}
    for name, parameter in parameters.items():
        vector = exact(torch.as_tensor(reference[name]).detach())
        if vector.shape != parameter.shape or not bool(torch.isfinite(vector).all()):
            raise InputError(
                f"the reference of {name!r} must be finite and of shape {tuple(parameter.shape)}, got "
                f"{tuple(vector.shape)}"
            )
        length = vector.norm()
        # What a file holds has unit length already, and must come out of it to the last bit.
        units[name] = (vector if length == 0 or abs(length - 1) < _UNIT else vector / length).to(parameter)
    if not any(bool(unit.any()) for unit in units.values()):
        raise ModelError("the reference is zero in every layer, so it has no direction; train for one step or more")
    return units


def _unit(vector: Tensor) -> Tensor:
    length = vector.norm()
    return vector / length if length > 0 else torch.zeros_like(vector)
