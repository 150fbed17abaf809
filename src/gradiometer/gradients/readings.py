"""What the instrument returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from gradiometer.errors import InputError


@dataclass(frozen=True)
class Readings:
    """Outputs of a batch with one statistic per sample and parameter tensor.

    Attributes:
        outputs: What the model returned, (B, C) for a classifier, in the model's dtype.
        values: The statistic, float64 (B, T), or (B, N, T) for an objective of N labels. Squared norms and absolute
            sums are 0 or more; exact zeros are parameters without influence on that sample's objective.
        parameters: Names of the T parameter tensors, in the order of `model.named_parameters()`.
        activations: Squared L2 norm of the input of each linear and convolution layer, float64 (B, L), if asked for.
        layers: Names of the weights of those L layers.
        means: Mean over all positions of the input of some layers, (B, channels), by name of the weight, if asked for.
        shares: Share of the positions at which each channel of the input is above zero, likewise, in [0, 1]; of layers
            whose input has positions.
    """

    outputs: Tensor
    values: Tensor
    parameters: tuple[str, ...]
    activations: Tensor | None = None
    layers: tuple[str, ...] = ()
    means: Mapping[str, Tensor] = field(default_factory=dict)
    shares: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of samples B."""
        return len(self.values)

    def __getitem__(self, parameter: str) -> Tensor:
        """The statistic of one parameter tensor, (B,) or (B, N).

        Raises:
            InputError: If there is no such parameter among the readings.
        """
        if parameter not in self.parameters:
            raise InputError(f"no readings of {parameter!r}; there are: {', '.join(self.parameters)}")
        return self.values[..., self.parameters.index(parameter)]
