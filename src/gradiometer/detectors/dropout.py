"""Monte Carlo dropout: several thinned networks instead of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pytorch_ood.api import DetectorInfo
from pytorch_ood.detector import MCD
from torch import Tensor, nn

from gradiometer import given
from gradiometer.detectors import uncertainty
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.selection import Output
from gradiometer.seeding import SEEDS

Floats = npt.NDArray[np.float64]

_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@register
class MCDropout(Detector):
    """Entropy of the mean prediction of networks that are thinned by their dropout layers, or a part of it.

    Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016, with this sign. In each pass one mask is drawn
    for every dropout layer and holds for all inputs: a pass is one network. So a score does not depend on what else is
    in the batch, and with the seed it is the same each time; `pytorch_ood.detector.MCD`, which draws a mask for each
    input and puts the whole model in train mode for it, has neither. The verdict's prediction and confidence are those
    of the whole network.

    Seen: nothing, no fit. Cost: one forward pass more than there are passes. Range: [0, log C] nats.

    Args:
        model: Classifier in eval mode with dropout layers.
        passes: Number of thinned networks.
        part: `total`, `aleatoric` or `epistemic`; see `uncertainty.of_classes`.
        seed: Of the masks.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.

    Raises:
        ModelError: The model has no dropout layer with a rate above 0 (or calls dropout as a function, which cannot be
            seen).
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = MCD.info

    def __init__(
        self,
        model: nn.Module,
        passes: int = 10,
        part: Literal["total", "aleatoric", "epistemic"] = "total",
        seed: int = 0,
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        if part not in uncertainty.KINDS:
            raise InputError(f"part is {part!r}; give {' or '.join(map(repr, uncertainty.KINDS))}")
        kinds = (nn.Dropout, *_CHANNELS)
        self._layers = [m for m in self.model.modules() if isinstance(m, kinds) and m.p > 0]
        if not self._layers:
            raise ModelError("the model has no dropout layer; give one that was trained with dropout")
        self.passes = given.whole("passes", passes, least=2)
        self.part = part
        self.seed = given.whole("seed", seed, least=0)
        self.output = output

    def _measure(self, inputs: Inputs) -> Measurement:
        outputs = forward(self.model, inputs, self.output)
        predictions = []
        for number in range(self.passes):
            with self._thinned(number):
                predictions.append(forward(self.model, inputs, self.output).cpu().double().softmax(1).numpy())
        parts = uncertainty.columns(uncertainty.of_classes(np.stack(predictions)))
        return Measurement(outputs, parts, tuple(f"{kind} uncertainty" for kind in uncertainty.KINDS))

    @contextmanager
    def _thinned(self, number: int) -> Iterator[None]:
        """The model with one mask for each call of a dropout layer."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % SEEDS)
        handles = [layer.register_forward_hook(_mask(generator)) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = statistics[:, uncertainty.KINDS.index(self.part)]
        return scores

    def _profile(self, statistics: Floats) -> Floats:
        return statistics

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _parameters(self) -> dict[str, Any]:
        names = ("passes", "part", "seed", "output")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}


def _mask(generator: torch.Generator) -> Callable[[Any, tuple[Any, ...], Tensor], Tensor]:
    """A hook that drops what the layer would drop in training, the same for all inputs."""

    def drop(layer: Any, args: tuple[Any, ...], _: Tensor) -> Tensor:
        values: Tensor = args[0]
        shape = (1, *values.shape[1:])
        if isinstance(layer, _CHANNELS):
            shape = (*shape[:2], *(1 for _ in shape[2:]))
        kept = torch.rand(shape, generator=generator) >= layer.p
        scale = 1 / (1 - layer.p) if layer.p < 1 else 0.0
        dropped: Tensor = values * (kept.to(values) * scale)
        return dropped

    return drop
