"""The last linear layer of a classifier, and what detectors on its gradient share: they need no backward pass.

The gradient of a loss with respect to the weight of the last layer is the outer product of dL/dz (C,) and the features
h (D,), so its norms are products. What these detectors measure is known from the forward pass.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer.detectors.arguments import encode
from gradiometer.detectors.features import Features
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import ModelError
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


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


class OnLastLayer:
    """The part of a detector without a fit that scores logits and features. Goes before Detector among the bases.

    Args:
        model: Classifier in eval mode with a linear layer at its end.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.
    """

    requires_fit = False

    def __init__(self, model: nn.Module, output: Output = None, *, batch_size: int = 128) -> None:
        super().__init__(model, batch_size=batch_size)  # type: ignore[call-arg]
        self.output = output
        self._last = LastLayer(model, output)

    @abstractmethod
    def _of(self, logits: Floats, features: Floats) -> Floats:
        """Outlier scores (B,) of logits (B, C) and the features (B, D) behind them."""

    def _measure(self, inputs: Inputs) -> Measurement:
        logits, features, layer = self._last(inputs)
        scores = self._of(logits.cpu().double().numpy(), features.cpu().double().numpy())
        return Measurement(logits, scores[:, None], (f"last layer {layer}",))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = statistics[:, 0]
        return scores

    def _parameters(self) -> dict[str, Any]:
        inherited: dict[str, Any] = super()._parameters()  # type: ignore[misc]
        return inherited | {"output": encode(self.output)}


def _gives(layer: nn.Linear, features: Tensor, logits: Tensor) -> bool:
    """Whether a layer turns features into logits, up to rounding."""
    rtol, atol = (1e-4, 1e-5) if features.dtype.itemsize >= 4 else (1e-2, 1e-2)
    with torch.no_grad():
        found = layer(features)
    return found.shape == logits.shape and torch.allclose(found, logits, rtol=rtol, atol=atol)
