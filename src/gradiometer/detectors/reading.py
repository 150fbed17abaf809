"""What detectors on penultimate features and on the last layer share: how they read it, and the layer itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.checks import Output
from gradiometer.detectors.features import Features
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import ModelError


class OnFeatures:
    """The part of a detector that scores penultimate features. Goes before Detector among the bases.

    Args:
        encoder: Function from inputs to features (B, D). None: the input of the last linear layer that the model
            calls, caught in the pass that also gives the logits.
        output: Where the logits are in what the model returns.
    """

    def _read_features_with(self, model: nn.Module, encoder: Callable[[Inputs], Tensor] | None, output: Output) -> None:
        self.encoder = encoder
        self.output = output
        self._features = Features(model, encoder, output)

    def _measure(self, inputs: Inputs) -> Measurement:
        outputs, features, layer = self._features(inputs)
        return Measurement(outputs, features.cpu().double().numpy(), (f"features into {layer}",))

    def _parameters(self) -> dict[str, Any]:
        inherited: dict[str, Any] = super()._parameters()  # type: ignore[misc]
        return inherited | {"encoder": encode(self.encoder), "output": encode(self.output)}


def _gives(layer: nn.Linear, features: Tensor, logits: Tensor) -> bool:
    """Whether a layer turns features into logits, up to rounding."""
    rtol, atol = (1e-4, 1e-5) if features.dtype.itemsize >= 4 else (1e-2, 1e-2)
    with torch.no_grad():
        found = layer(features)
    return found.shape == logits.shape and torch.allclose(found, logits, rtol=rtol, atol=atol)


class LastLayer:
    """Reads logits and features of a batch, and makes sure that a linear layer is all that lies between them.

    Args:
        model: Classifier in eval mode.
        output: Where the logits are in what the model returns.
    """

    def __init__(self, model: nn.Module, output: Output) -> None:
        self.model = model
        self._features = Features(model, None, output, "; wrap it so that its logits come from a torch.nn.Linear")
        self._checked: nn.Linear | None = None

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor, str]:
        """Read a batch.

        Args:
            inputs: B samples.

        Returns:
            Logits (B, C), features (B, D), and the name of the layer.

        Raises:
            ModelError: The logits are not the output of the last linear layer.
        """
        return self._known_to_be_last(*self._features(inputs))

    def attached(self, inputs: Inputs) -> tuple[Tensor, Tensor, str]:
        """The same with the history of logits and features, where gradients are on."""
        return self._known_to_be_last(*self._features.attached(inputs))

    def _known_to_be_last(self, logits: Tensor, features: Tensor, name: str) -> tuple[Tensor, Tensor, str]:
        layer = dict(self.model.named_modules()).get("" if name == "the model" else name)
        if layer is None or layer is not self._checked:
            if not isinstance(layer, nn.Linear) or not _gives(layer, features, logits):
                raise ModelError(
                    f"the logits are not the output of the last linear layer ({name}); wrap the model so that they are "
                    "that of a torch.nn.Linear"
                )
            self._checked = layer
        return logits, features, name

    @property
    def layer(self) -> nn.Linear:
        """The last linear layer.

        Raises:
            ModelError: Before anything was read.
        """
        if self._checked is None:
            raise ModelError("the last linear layer is known once images have been read; fit or score first")
        return self._checked

    def weight_and_bias(self) -> tuple[Tensor, Tensor]:
        """Weight (C, D) and bias (C,) of the last linear layer, float64; zeros for a layer without bias."""
        weight, bias = self.layer.weight.detach().cpu().double(), getattr(self.layer, "bias", None)
        return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach().cpu().double()
