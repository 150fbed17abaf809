"""GradPCA: how far the gradient of an input leaves the subspace of class means of gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
from gradiometer.detectors.inputs import Again, Batch, Inputs, rows, take
from gradiometer.detectors.layers import layer_of
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, collect
from gradiometer.detectors.subspace import MeanSubspace, outside
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer
from gradiometer.gradients.selection import Output

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

_HELD = 2**25
"""Entries of gradients, of all samples together, that are held at a time."""


@register
class GradPCA(Detector):
    """One minus the cosine between the gradient of an input and its part in the subspace of class means of gradients.

    Seleznova, Chou, Verdun and Kutyniok, "GradPCA: Leveraging NTK Alignment for Reliable Out-of-Distribution
    Detection", ICLR 2026, who use the cosine as confidence. g(x) is the gradient of one number, made of the logits,
    with respect to some parameters, g_c its mean over the known images of class c, and m the mean of the g_c. P
    projects onto the fewest principal directions that hold 99 % of the spread of the g_c around m, and the score is
    1 - ||P (g(x) - m)|| / ||g(x) - m||.

    Confirmed by descriptions of the method and an independent implementation, not against the released code itself: the
    construction. They differ in the number: the largest logit (`value="max"`, as the paper is quoted) or the sum of the
    logits (`value="sum"`, as the code is). The parameters are those of the last hidden layer, which is our reading: the
    layer with a weight that is used last but one, without the normalisation behind it.

    With the sum of the logits and the last layer of all (`parameters="fc.*"`) every row of g(x) is the features, so
    that the same construction on the features gives the same scores without a gradient: the control of the tables.

    Seen: known images with labels. Cost: two forward passes and one backward pass; fitting goes through the known
    images twice. Range: [0, 1].

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        parameters: Globs of the names of the parameters; None for weight and bias of the last hidden layer.
        value: `max` or `sum`.
        share: Of the spread of the class means that the directions hold, above 0 and at most 1.
        output: Where the logits are in what the model returns: a key, a position or a function.
        memory: Working memory that the gradients may take besides themselves, such as `"512MiB"`; None for no limit.
        batch_size: Samples that go through the model at once.

    Raises:
        InputError: There is no such value, or the share is out of range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> known, labels = torch.randn(60, 4), torch.arange(60) % 3
        >>> GradPCA(model).fit((known, labels)).predict(known[:2]).shape
        torch.Size([2])
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="GradPCA: Leveraging NTK Alignment for Reliable Out-of-Distribution Detection",
            venue="ICLR",
            year=2026,
            url="https://arxiv.org/abs/2505.16017",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        model: nn.Module,
        parameters: str | Sequence[str] | None = None,
        value: Literal["max", "sum"] = "max",
        share: float = 0.99,
        output: Output = None,
        *,
        memory: str | int | None = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        if value not in _VALUES:
            raise InputError(f"value is {value!r}; give 'max' or 'sum'")
        self.parameters = parameters if parameters is None or isinstance(parameters, str) else list(parameters)
        self.value = value
        self.share = given.number("share", share, "one above 0 and at most 1, such as 0.99", above=0, most=1)
        self.output = output
        self.memory = memory
        self._meter = self._reading("*" if self.parameters is None else self.parameters)
        self._chosen = self.parameters is not None
        self._subspace: MeanSubspace | None = None

    def _fit(self, known: Any, challenges: Any) -> None:
        """Learn first the subspace, then how known images lie to it."""
        again = Again(known, self.batch_size)
        self._subspace = self._known = None
        sums: dict[int, Floats] = {}
        samples = collect(_added(self._measurements(again, "known images", None, known=True), sums), "known images")
        labels = samples.labelled()
        counts = np.bincount(labels, minlength=samples.classes)
        means = np.stack([sums[label] / counts[label] for label in range(samples.classes)])
        self._subspace = MeanSubspace.fit(means, self.share)
        super()._fit(again, challenges)

    def _measure(self, inputs: Inputs) -> Measurement:
        if not self._chosen:
            self._choose(inputs)
        size = sum(parameter.numel() for parameter in self._read())
        step = max(1, _HELD // size)
        parts = []
        for start in range(0, rows(inputs), step):
            found = self._meter.gradients(take(inputs, slice(start, start + step)))
            values = torch.cat([gradient.flatten(1) for gradient in found.values()], dim=1).cpu().double().numpy()
            parts.append(values if self._subspace is None else np.stack(self._subspace.squares(values), axis=1))
        outputs = forward(self.model, inputs, self.output)
        return Measurement(outputs, np.concatenate(parts), tuple(f"gradient of {n}" for n in self._meter.parameters))

    def _choose(self, inputs: Inputs) -> None:
        """Take the last hidden layer, which the first inputs show."""
        used = self._meter.layers(inputs)
        layer = layer_of(used[-2:][0])
        self._meter = self._reading([n for n in self._meter.parameters if n.rpartition(".")[0] == layer])
        self._chosen = True

    def _reading(self, parameters: str | Sequence[str]) -> Gradiometer:
        return Gradiometer(self.model, _VALUES[self.value], parameters, memory=self.memory, output=self.output)

    def _read(self) -> list[Tensor]:
        return [self.model.get_parameter(name) for name in self._meter.parameters]

    def _score(self, statistics: Floats) -> Floats:
        return outside(statistics[:, 0], statistics[:, 1])

    def _state(self) -> dict[str, Array]:
        return {} if self._subspace is None else self._subspace.state()

    def _restore(self, state: Mapping[str, Array]) -> None:
        self._subspace = MeanSubspace.restore(state)

    def _parameters(self) -> dict[str, Any]:
        names = ("parameters", "value", "share", "output", "memory")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}


def _largest(outputs: Tensor, _: Any) -> Tensor:
    return outputs.max(1).values


def _sum(outputs: Tensor, _: Any) -> Tensor:
    return outputs.sum(1)


_VALUES = {"max": _largest, "sum": _sum}


def _added(parts: Iterator[tuple[Batch, Measurement]], sums: dict[int, Floats]) -> Iterator[tuple[Batch, Measurement]]:
    """The same readings without their statistics, which are added up by class on the way."""
    for batch, measurement in parts:
        for label in np.unique(batch.labels) if batch.labels is not None else ():
            added = measurement.statistics[batch.labels == label].sum(0)
            sums[int(label)] = sums[int(label)] + added if int(label) in sums else added
        yield batch, replace(measurement, statistics=measurement.statistics[:, :0])
