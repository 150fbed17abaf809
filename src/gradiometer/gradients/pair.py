"""A convolution and the batch norm behind it, run as one operation: from the gradient of its output to factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gradiometer.gradients.factors import Dense, Factor, wide
from gradiometer.gradients.folding import Affine
from gradiometer.gradients.rules.convolution import ByChannel
from gradiometer.gradients.rules.normalization import channel_sums
from gradiometer.gradients.stacked import again
from gradiometer.gradients.uses import Use


@dataclass
class Pair:
    """Two steps of the forward pass whose backward part is still to come.

    Attributes:
        convolution: The first; its scale is that of the batch norm.
        norm: The second; its activation is its own output.
        affine: What the batch norm does to each channel.
    """

    convolution: Use
    norm: Use
    affine: Affine

    @property
    def roots(self) -> frozenset[str]:
        """Names of the parameters whose statistics it yields."""
        return self.convolution.roots | self.norm.roots

    def wanted(self) -> Iterator[tuple[Tensor, frozenset[str]]]:
        """The weights whose gradients are wanted; see `Use.wanted`."""
        yield from self.convolution.wanted()
        yield from self.norm.wanted()

    def found(self, gradient: Tensor, labels: int) -> Iterator[tuple[Tensor, frozenset[str], Factor]]:
        """The same with their factors, from the gradient of the output; see `Use.factors`."""
        factors = self.convolution.factors(gradient, labels) if self.convolution.targets else {}
        for at, factor in factors.items():
            yield self.convolution.targets[at], self.convolution.operation.roots[at], factor
        if self.norm.targets:
            weight = factors.get(self.convolution.operation.positions["weight"])
            errors = wide(self.norm.step.output.split(gradient, labels * self.norm.batch))
            sums = (
                self._from_weight(errors, weight)
                if isinstance(weight, ByChannel)
                else self._from_output(errors, labels)
            )
            places = self.norm.operation.positions
            values = dict(zip((places["weight"], places["bias"]), sums, strict=True))
            for at, target in self.norm.targets.items():
                yield target, self.norm.operation.roots[at], Dense(values[at], "sum, folded")

    def overwritten(self) -> None:
        """Take note that the output was changed in place, in a way that does not matter here."""
        self.norm.versions = {at: tensor._version for at, tensor in self.norm.activations.items()}

    def changed(self) -> bool:
        """Whether an activation was changed in place since the call."""
        return self.convolution.changed() or self.norm.changed()

    def release(self) -> None:
        """Let go of the activations: nothing will be asked again."""
        self.convolution.release()
        self.norm.release()

    def _from_output(self, errors: Tensor, labels: int) -> tuple[Tensor, Tensor]:
        """Gradients (L B, C) of scale and shift, by the normalised input (y - β) / γ."""
        (output,) = self.norm.activations.values()
        outputs = wide(self.norm.step.output.split(again(output, labels), labels * self.norm.batch))
        scale, shift = channel_sums(outputs, errors, self.affine.beta, self.affine.gamma.square(), 0.0)
        return scale * self.affine.gamma.sign(), shift

    def _from_weight(self, errors: Tensor, weight: ByChannel) -> tuple[Tensor, Tensor]:
        """The same from the gradient of the convolution's weight, without another look at the images.

        A convolution z = W x is linear in W, so that the sum of g z over positions is <W, its gradient>.
        """
        shift = weight.shift_sums(errors)
        own = self.convolution.weights[self.convolution.operation.positions["weight"]]
        return (weight.row_products(own) - self.affine.centre * shift) * self.affine.inverse, shift
