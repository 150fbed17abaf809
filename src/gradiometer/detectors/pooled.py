"""Pooled inputs of several layers, with the way back to the input, for detectors that take gradients there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.detectors.checks import check_outputs, run
from gradiometer.detectors.inputs import Inputs, rows
from gradiometer.detectors.layers import layer_of, spread
from gradiometer.errors import ModelError
from gradiometer.gradients.selection import Output
from gradiometer.gradients.state import scripted

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Pooled:
    """Reads logits and the mean over all positions of the input of some layers.

    Layers are linear and convolution modules; the batch comes first in their inputs. Without that, and without modules,
    `Gradiometer.activation_norms(means=...)` reads the same, but not the gradient with respect to the input.

    Args:
        model: Classifier in eval mode.
        layers: How many layers, evenly spread and the last one always among them, or their names.
        output: Where the logits are in what the model returns.
    """

    def __init__(self, model: nn.Module, layers: int | Sequence[str], output: Output) -> None:
        self.model = model
        self.layers = layers
        self.output = output
        self._chosen: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chosen layers, once something was read."""
        return self._chosen or ()

    def __call__(self, inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read a batch.

        Args:
            inputs: B samples.

        Returns:
            Logits (B, C), detached, and one tensor (B, channels) for each layer.

        Raises:
            ModelError: The model calls no linear or convolution module, or one whose input does not begin with the
                batch.
        """
        if self._chosen is None:
            with torch.no_grad():
                _, found = self._run(inputs, None)
            if not found:
                hint = scripted(self.model)
                raise ModelError(f"the model calls no linear or convolution module to read the inputs of{hint}")
            self._chosen = tuple(layer_of(n) for n in spread([f"{name}.weight" for name in found], self.layers))
        logits, found = self._run(inputs, self._chosen)
        return check_outputs(logits, inputs, self.model), tuple(found[name] for name in self._chosen)

    def _run(self, inputs: Inputs, chosen: Sequence[str] | None) -> tuple[Any, dict[str, Tensor]]:
        """What the model returns and the pooled inputs by name of the layer, in the order of their last use."""
        found: dict[str, Tensor] = {}
        count = rows(inputs)

        def catch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
                found.pop(name, None)
                found[name] = _mean(args[0], module, count, name)

            return hook

        handles = [
            module.register_forward_pre_hook(catch(name))
            for name, module in self.model.named_modules()
            if isinstance(module, (nn.Linear, *_CONVOLUTIONS)) and (chosen is None or name in chosen)
        ]
        try:
            returned = run(self.model, inputs, self.output)
        finally:
            for handle in handles:
                handle.remove()
        return returned, found


def _mean(values: Tensor, module: nn.Module, count: int, name: str) -> Tensor:
    if len(values) != count:
        raise ModelError(f"the input {tuple(values.shape)} of the layer {name!r} does not begin with {count} samples")
    if isinstance(module, _CONVOLUTIONS):
        return values.flatten(2).mean(2)
    return values if values.ndim == 2 else values.flatten(1, -2).mean(1)
