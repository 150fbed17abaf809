"""Deep ensembles: several networks of one kind that were trained on their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import nn, stack

from gradiometer.detectors import uncertainty
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import InputError
from gradiometer.gradients.factors import exact
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


@register
class DeepEnsemble(Detector):
    """Entropy of the mean prediction of several networks, or the part of it that is their disagreement.

    Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", NeurIPS 2017, with this sign. The verdict's prediction and confidence are those of the mean prediction.

    Seen: nothing, no fit (but as many trainings as there are networks). Cost: one forward pass for each. Range:
    [0, log C] nats.

    Args:
        models: Two or more classifiers in eval mode with the same classes, as a list or an `nn.ModuleList`; `load`
            takes an `nn.ModuleList`.
        part: `total`, `aleatoric` or `epistemic`; see `uncertainty.of_classes`.
        output: Where the logits are in what each returns: a key, a position or a function.
        batch_size: Samples that go through a model at once.

    Raises:
        InputError: Fewer than two models.
    """

    requires_fit = False
    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
            venue="NeurIPS",
            year=2017,
            url="https://arxiv.org/abs/1612.01474",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        models: nn.ModuleList | Iterable[nn.Module],
        part: Literal["total", "aleatoric", "epistemic"] = "total",
        output: Output = None,
        *,
        batch_size: int = 128,
    ) -> None:
        if isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList):
            raise InputError(f"the models are one {type(models).__name__}; give a list of two or more")
        members = list(models)
        if len(members) < 2 or part not in uncertainty.KINDS:
            raise InputError(
                f"{len(members)} model(s) and part {part!r}; give two or more, and {', '.join(uncertainty.KINDS)}"
            )
        together = nn.ModuleList(members)
        together.training = False  # of the list itself; the members are looked at each time
        super().__init__(together, batch_size=batch_size)
        self.part = part
        self.output = output

    def _measure(self, inputs: Inputs) -> Measurement:
        predictions = stack([exact(forward(m, inputs, self.output)).softmax(1) for m in self.model.children()])
        parts = uncertainty.columns(uncertainty.of_classes(predictions.cpu().numpy()))
        # Logs of the mean probabilities are logits of the ensemble.
        outputs = predictions.mean(0).clamp_min(np.finfo(np.float64).tiny).log()
        return Measurement(outputs, parts, tuple(f"{kind} uncertainty" for kind in uncertainty.KINDS))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = statistics[:, uncertainty.KINDS.index(self.part)]
        return scores

    def _profile(self, statistics: Floats) -> Floats:
        return statistics

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _parameters(self) -> dict[str, Any]:
        return super()._parameters() | {"part": self.part, "output": encode(self.output)}
