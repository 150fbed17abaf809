"""Penultimate features of a classifier, caught on the way to its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.detectors.checks import Output, forward
from gradiometer.detectors.inputs import Inputs, rows
from gradiometer.errors import ModelError


class Features:
    """Reads logits and penultimate features of a batch.

    Args:
        model: Classifier in eval mode.
        encoder: Function from inputs to features (B, D), or None for the input of the last linear layer that the
            model calls.
        output: Where the logits are in what the model returns.
    """

    def __init__(self, model: nn.Module, encoder: Callable[[Inputs], Tensor] | None, output: Output) -> None:
        self.model = model
        self.encoder = encoder
        self.output = output

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor, str]:
        """Read a batch.

        Args:
            inputs: B samples.

        Returns:
            Logits (B, C), features (B, D), and the name of the layer that the features go into.

        Raises:
            ModelError: The model calls no linear layer, or the features are not (B, D).
        """
        if self.encoder is not None:
            logits = forward(self.model, inputs, self.output)
            with torch.no_grad():
                return logits, _flat(self.encoder(inputs), rows(inputs), "the encoder"), "encoder"
        caught: list[tuple[str, Tensor]] = []

        def catch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
                # The last call is the one that counts; the features of earlier layers are let go.
                caught[:] = [(name, args[0])]

            return hook

        linear = {name: module for name, module in self.model.named_modules() if isinstance(module, nn.Linear)}
        handles = [module.register_forward_pre_hook(catch(name)) for name, module in linear.items()]
        try:
            logits = forward(self.model, inputs, self.output)
        finally:
            for handle in handles:
                handle.remove()
        if not caught:
            raise ModelError("the model calls no linear layer to take features from; give encoder=")
        name, features = caught[0]
        return logits, _flat(features, rows(inputs), f"the linear layer {name!r}"), name or "the model"


def _flat(features: Any, count: int, where: str) -> Tensor:
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != count:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ModelError(f"{where} gives features {shape} where ({count}, D) is needed; give an encoder= that does")
    return features.detach()
