"""GAIA: abnormal gradients with respect to the maps behind normalisation layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import Tensor, nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward
from gradiometer.detectors.features import attached
from gradiometer.detectors.inputs import Inputs, mapped, rows
from gradiometer.detectors.lastlayer import LastLayer
from gradiometer.detectors.normalized import Named, NormalizedMaps, gradients, mean_of_positions
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.selection import Output
from gradiometer.gradients.state import left_as_found

Floats = npt.NDArray[np.float64]
Form = Literal["zero-deflation", "channel-average"]

ZERO, AVERAGE = "zero-deflation", "channel-average"
_LEAST = float(np.finfo(np.float32).tiny)
"""The output component of a prediction without any gradient, so that its score is finite."""


@register
class GAIA(Detector):
    """How unusual the gradients are with which a prediction is attributed to the maps behind normalisation layers.

    Chen et al., "GAIA: Delving into Gradient-based Attribution Abnormality for Out-of-distribution Detection", NeurIPS
    2023, with this sign (their code negates the score, as its measures want known images high). Two forms:

    - `zero-deflation` (GAIA-Z). The largest logit is sent back, and for each channel j of each map the share r_j of
      positions is taken at which the gradient is not zero. The score is the mean of r_j^2 over the channels of all
      layers: fewer zeros, more abnormal. Range: [0, 1].
    - `channel-average` (GAIA-A). The sum of the penultimate features h is sent back, a_j is the mean of the gradient
      over the positions of channel j, and the score is mean_j a_j^2 / o^2. The output component o^2 is the mean over
      features of the absolute gradient of sum_k log p_k with respect to h, W^T (1 - C p) for the weight W of the last
      layer. Range: 0 or larger.

    Confirmed in the released code: what is sent back in which form, gradients with respect to the *outputs* of
    normalisation layers (batch norm; in BiT networks group norm), shares and averages channel by channel over all
    layers together, the squares, the quotient and the sign. GAIA-Z takes all layers there. GAIA-A takes all of a
    WideResNet and a VGG, and those of the last two stages of a ResNet (`layers=("layer3.*", "layer4.*")`); all are the
    default here. Ours: o comes in closed form and not from a second backward pass.
    In the released code it belongs to the map before the mean over positions, if there is one, which divides it by
    their number: a factor that all images share. A layer that is called several times counts each time, there the last.

    Behind a ReLU the gradient is zero where the ReLU is, whatever is sent back, and hardly anywhere else. So GAIA-Z is
    the share of active units, which a forward pass shows: `gradients=False` takes that of the ReLU behind each layer
    instead, and of GAIA-A it leaves 1 / o^2 (the controls).

    Seen: nothing, no fit. Cost: one forward pass and one backward pass of activations; one forward pass without
    gradients.

    Args:
        model: Classifier in eval mode with batch, instance or group normalisation; for GAIA-A with a linear layer at
            its end.
        form: Which of the two.
        layers: Globs of the names of the normalisation layers, `"*"` for all.
        gradients: Whether gradients are read, or what stands beside them as a control.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.

    Raises:
        InputError: There is no such form or layer.
        ModelError: The model has no normalisation module. When images are read: GAIA-A and its logits are not the
            output of the last linear layer; at fit or calibrate: GAIA-Z and there is no zero on any image.

    Example:
        >>> from gradiometer import models
        >>> model = models.load("resnet20-cifar10")
        >>> detector = GAIA(model, "channel-average", layers=("layer2.*", "layer3.*"))
        >>> detector.predict(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2])
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="GAIA: Delving into Gradient-based Attribution Abnormality for Out-of-distribution Detection",
            venue="NeurIPS",
            year=2023,
            url="https://arxiv.org/abs/2311.09620",
            code="https://github.com/JGEthanChen/GAIA-OOD",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        model: nn.Module,
        form: Form = "zero-deflation",
        layers: str | Sequence[str] = "*",
        gradients: bool = True,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        if form not in (ZERO, AVERAGE):
            raise InputError(f"form is {form!r}; give {ZERO!r} or {AVERAGE!r}")
        self.form = form
        self.layers = layers if isinstance(layers, str) else list(layers)
        self.gradients = given.switch("gradients", gradients)
        self.output = output
        # The control of GAIA-A looks at no layer but the last.
        remedy = "; take another detector, such as GradNorm or GradPCA"
        self._maps = NormalizedMaps(self.model, self.layers, remedy) if form == ZERO or gradients else None
        self._last = LastLayer(self.model, output)
        self._found = False

    def _measure(self, inputs: Inputs) -> Measurement:
        if self.form == ZERO:
            return self._zeros(inputs)
        if self._maps is None:
            logits, _, _ = self._last(inputs)
            return Measurement(logits, self._output_component(logits)[:, None], ("gradient of the output",))
        if not self._found:
            self._last(inputs)  # finds the layer, in a pass more that must not be watched
            self._found = True
        logits, found = _sent_back(self.model, inputs, self._maps, lambda x: self._last.attached(x)[:2])
        columns, names = _columns([(name, mean_of_positions(gradient.double())) for name, gradient in found])
        statistics = np.concatenate([columns, self._output_component(logits)[:, None]], axis=1)
        return Measurement(logits, statistics, (*(f"gradients behind {n}" for n in names), "gradient of the output"))

    def _zeros(self, inputs: Inputs) -> Measurement:
        """The share of positions with a gradient of the largest logit, or with an active unit, by channels."""

        def largest(x: Inputs) -> tuple[Tensor, Tensor]:
            logits = attached(self.model, x, self.output)
            return logits, logits.max(1).values

        maps = self._maps
        assert maps is not None
        if self.gradients:
            kind = "gradients that are not zero"
            logits, found = _sent_back(self.model, inputs, maps, largest)
            shares = [(name, mean_of_positions((gradient != 0).double())) for name, gradient in found]
        else:
            kind = "active units"
            logits, shares = maps.activity(lambda: forward(self.model, inputs, self.output), rows(inputs))
        columns, names = _columns(shares)
        return Measurement(logits, columns, tuple(f"{kind} behind {name}" for name in names))

    def _output_component(self, logits: Tensor) -> Floats:
        """o^2 (B,): the mean over features of |W^T (1 - C p)|."""
        weight, _ = self._last.weight_and_bias()
        slope = 1 - logits.shape[1] * logits.detach().cpu().double().softmax(1)
        component: Floats = (slope @ weight).abs().mean(1).numpy()
        return component

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats
        if self.form == ZERO:
            scores = statistics.sum(1)
            return scores
        inner = statistics[:, :-1].sum(1) if self.gradients else 1.0
        scores = inner / np.maximum(statistics[:, -1], _LEAST)
        return scores

    def _profile(self, statistics: Floats) -> Floats:
        return statistics

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _remember(self, samples: Samples, *, fitted: bool) -> None:
        if self.form == ZERO and (self._score(samples.statistics) >= 1 - 1e-9).all():
            raise ModelError(
                f"no gradient is zero on any of {len(samples)} images, so that zero-deflation says nothing: no "
                f"activation of the model is exactly zero (GELU and SiLU are not); give form={AVERAGE!r}"
            )
        super()._remember(samples, fitted=fitted)

    def _parameters(self) -> dict[str, Any]:
        names = ("form", "layers", "gradients", "output")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}


def _sent_back(
    model: nn.Module, inputs: Inputs, maps: NormalizedMaps, call: Callable[[Inputs], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Named]:
    """Logits, and gradients of the sum of what a call returns beside them."""
    with left_as_found(model, ()):
        # Tensors of inference mode have no history, and a model may overwrite its input.
        copied = mapped(inputs, torch.clone)
        (logits, value), probes = maps.probed(lambda: call(copied), rows(inputs))
        return logits.detach(), gradients(value.sum(), probes)


def _columns(named: Named) -> tuple[Floats, tuple[str, ...]]:
    """Names of layers, and what each (B, L) has in the mean of squares over the channels of all."""
    channels = sum(values.shape[1] for _, values in named)
    columns: dict[str, Floats] = {}
    for name, values in named:
        part = (values.square().sum(1) / channels).cpu().numpy()
        columns[name] = columns[name] + part if name in columns else part
    return np.stack(list(columns.values()), axis=1), tuple(columns)
