"""Guard: several views of one pass through the network, added up as p-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from pytorch_ood.api import DetectorInfo, Task
from torch import nn

from gradiometer import given
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import check_outputs, forward
from gradiometer.detectors.consistency import Consistency, loss_when_smoothed
from gradiometer.detectors.fusion import Fusion
from gradiometer.detectors.inputs import Inputs
from gradiometer.detectors.layers import asked, layer_of, spread
from gradiometer.detectors.members import (
    ActivityDistance,
    Confidence,
    FeatureDistance,
    LayerDistance,
    LogitDistance,
    LogitEnergy,
    Member,
    NormDistance,
    Views,
)
from gradiometer.detectors.norms import activation_norms, gradient_norms
from gradiometer.detectors.opinions import Opinions
from gradiometer.detectors.registry import register
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.detectors.smoothing import smoothed
from gradiometer.detectors.stability import ChangeDistance, changes, shaken
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients import ConfoundingLabel, Gradiometer, Loss, Objective
from gradiometer.gradients.selection import Output

Members = Literal["five", "seven"]
"""How many members are asked, besides those that need a second pass."""

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

STEP = 2 / 255
"""How far an input moves for the member `stability` where it was measured: two grey levels of an image in [0, 1]."""

_SHAKEN = "changes under a step"
_SMOOTHED = "loss when smoothed"
_ACTIVE = "active channels into"


@register
class Guard(Detector):
    """Known-only detector that asks eight members, from two forward passes, and one backward pass if wanted.

    The members look at the penultimate features, at the logits (how usual they are, their energy, and the odds of
    the predicted class), at the inputs of several layers (their means, and which channels are above zero), and at the
    norms of activations (and gradients). The eighth asks whether the prediction survives a median filter of the image,
    and counts twice; with a step, one more looks at what a small move of the input in a random direction changes. Each
    gives a p-value among held-out known images, and the score is the sum of their -log p (see `Fusion`); `judge` and
    `explain` say which members found an input strange. The confidence of a verdict, the largest softmax probability,
    stays the better guide to wrong predictions on known images.

    Seen: known images only. Their labels are the classes whose means are learnt; without labels, the predictions are
    taken for them. Cost: two forward passes, one without smoothing, one more with a step, and one backward pass with
    gradients.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C).
        gradients: Whether the norms include those of the gradients of every parameter tensor, for one backward pass.
            Everything else is the same, so that either is the control of the other. They were not found to add anything
            to the sum (docs/science/detection.md has the figures).
        objective: What is backpropagated; `ConfoundingLabel(reading="softmax")` when None, as in Purview.
        layers: Of which layers the inputs are looked at: a number of layers, or their names. A number spreads that many
            evenly over the linear and convolution layers in the order in which the network uses them, without the very
            first, whose input is the image, and always with the last, whose input are the features.
        neighbours: k of the density of the norms.
        seed: Of the division of the known images, and of the signs of the step.
        output: Where the logits are in what the model returns: a key, a position or a function; None for the thing
            itself.
        step: By how much every floating point number of an input moves, up or down at random (the same signs for every
            input), for the member `stability`. In units of the inputs: `STEP` is two grey levels of images in [0, 1];
            images that are normalised outside of the model need it divided by the deviation. 0 leaves the member and
            its forward pass out; so do inputs of integers alone, such as tokens.
        smoothing: Whether images, which are floating point tensors (B, C, H, W), go through the model once more after a
            median filter of 3 x 3 pixels, for the member `consistency`: how much of the probability of the predicted
            class is left. Inputs without an image leave it out. With it was found to be better than without
            (docs/science/detection.md has the figures), most of all under attack.
        members: `"seven"`, or `"five"` to do without `activity` (which channels of these layers are above zero, and at
            how many positions, such as pixels or tokens) and `confidence` (the odds of the predicted class); `layers`
            divides the means of a layer by their norm then. Networks whose layers have no positions leave `activity`
            out. Seven were found to be better than five on average, and much worse at one attack on digits
            (docs/science/detection.md has the figures).
        memory: Working memory that the gradients may take, such as `"512MiB"`; None for no limit of ours.
        batch_size: Samples that go through the model at once.

    Raises:
        InputError: At fit, with fewer than 60 known images.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> known, held_out = torch.randn(200, 4), torch.randn(100, 4)
        >>> detector = Guard(model).fit(known).calibrate(held_out, false_alarm_rate=0.1)
        >>> verdict = detector.judge(torch.full((1, 4), 50.0))
        >>> verdict.trustworthy.tolist(), verdict.opinions.names
        ([False], ('features', 'logits', 'energy', 'confidence', 'layers', 'norms'))
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(tasks={Task.CLASSIFICATION})
    hyperparameter_space: ClassVar[dict[str, list[int]]] = {"neighbours": [1, 5, 10, 20, 50]}

    def __init__(
        self,
        model: nn.Module,
        gradients: bool = False,
        objective: Objective | Loss | None = None,
        layers: int | Sequence[str] = 10,
        neighbours: int = 10,
        seed: int = 0,
        output: Output = None,
        *,
        step: float = 0.0,
        smoothing: bool = True,
        members: Members = "seven",
        memory: str | int | None = None,
        batch_size: int = 128,
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        if members not in get_args(Members):
            raise InputError(f"members is {members!r}; give {' or '.join(map(repr, get_args(Members)))}")
        self.gradients = given.switch("gradients", gradients)
        self.objective: Objective | Loss = ConfoundingLabel(reading="softmax") if objective is None else objective
        self.layers = asked(layers)
        self.neighbours = given.whole("neighbours", neighbours)
        self.seed = given.whole("seed", seed, least=0)
        self.output = output
        self.step = given.number("step", step, "a size in units of the inputs, or 0 to do without", least=0)
        self.smoothing = given.switch("smoothing", smoothing)
        self.members: Members = members
        self.memory = memory
        self._meter = Gradiometer(model, self.objective, memory=memory, output=output)
        self._chosen: tuple[str, ...] = ()
        self._widths: tuple[int, ...] = ()
        self._shakes = self._smooths = False
        self._active = 0
        self._fusion: Fusion | None = None

    def _measure(self, inputs: Inputs) -> Measurement:
        if not self._chosen:
            self._chosen = spread(self._meter.layers(inputs), self.layers)
        shares = self._chosen if self.members == "seven" else ()
        if self.gradients:
            readings = self._meter.squared_norms(inputs, activations=True, means=self._chosen, shares=shares)
            norms, names = gradient_norms(readings)
        else:
            readings = self._meter.activation_norms(inputs, means=self._chosen, shares=shares)
            norms, names = activation_norms(readings)
        outputs = check_outputs(readings.outputs, inputs, self.model)
        active = [name for name in self._chosen if name in readings.shares]
        pooled = [*(readings.means[name] for name in self._chosen), *(readings.shares[name] for name in active)]
        blocks = [value.cpu().double().numpy() for value in (outputs, *pooled)]
        said = ["logits", *(f"inputs of {layer_of(name)}" for name in self._chosen)]
        said += [f"{_ACTIVE} {layer_of(name)}" for name in active]
        for name, values in self._again(inputs, blocks[0], blocks[1 : 1 + len(self._chosen)]):
            said.append(name)
            blocks.append(values)
        return Measurement(
            outputs,
            np.concatenate([*blocks, norms], axis=1),
            (*said, *names),
            tuple(block.shape[1] for block in blocks),
        )

    def _again(self, inputs: Inputs, logits: Floats, layers: Sequence[Floats]) -> Iterator[tuple[str, Floats]]:
        """What further passes tell of inputs, as far as they are asked for and can change them: names and (B, P)."""
        moved = shaken(inputs, self.step, self.seed) if self.step else None
        if moved is not None:
            there = self._meter.activation_norms(moved, means=self._chosen)
            turned = [there.means[name].cpu().double().numpy() for name in self._chosen]
            yield _SHAKEN, changes(logits, layers, there.outputs.cpu().double().numpy(), turned)
        calm = smoothed(inputs) if self.smoothing else None
        if calm is not None:
            after = forward(self.model, calm, self.output).cpu().double().numpy()
            yield _SMOOTHED, loss_when_smoothed(logits, after)[:, None]

    def _learn(self, known: Samples, _: Samples | None, /) -> None:
        labels = known.predictions if known.labels is None else known.labels
        if labels.max() >= known.classes:
            raise InputError(f"label {labels.max()} is outside 0 to {known.classes - 1}, the classes of the model")
        self._widths = known.widths
        self._shakes, self._smooths = (name in known.names for name in (_SHAKEN, _SMOOTHED))
        self._active = sum(name.startswith(_ACTIVE) for name in known.names)
        fusion = Fusion(self._asked(), self.seed)
        self._fusion = fusion.fit(self._views(known.statistics), labels, known.groups)

    def _score(self, statistics: Floats) -> Floats:
        return self._fitted().score(self._views(statistics))

    def _opinions(self, statistics: Floats) -> Opinions | None:
        fusion = self._fitted()
        names = tuple(member.name for member in fusion.members)
        return Opinions(names, np.exp(-fusion.surprises(self._views(statistics))))

    def _profile(self, statistics: Floats) -> Floats:
        views = self._views(statistics)
        return np.concatenate([member.details(views) for member in self._fitted().members], axis=1)

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _compared(self, samples: Samples) -> Floats:
        # Distances of the images that the members were fitted on are too small to compare later inputs with.
        apart = self._fitted().apart(np.arange(len(samples)) if samples.groups is None else samples.groups)
        return samples.statistics[apart]

    def _state(self) -> dict[str, Array]:
        return self._fitted().state() | {"widths": np.array(self._widths, dtype=np.int64)}

    def _restore(self, state: Mapping[str, Array]) -> None:
        self._widths = tuple(int(width) for width in state["widths"])
        self._shakes, self._smooths = (f"{kind.name}.tail" in state for kind in (ChangeDistance, Consistency))
        self._active = len(state.get(f"{ActivityDistance.name}.mean", ()))
        # Files from before there was a choice do not say what they did without.
        self.smoothing = self.smoothing and self._smooths
        if f"{Confidence.name}.tail" not in state:
            self.members = "five"
        self._fusion = Fusion(self._asked(), self.seed)
        self._fusion.restore(state)

    def _parameters(self) -> dict[str, Any]:
        read = ("gradients", "objective", "layers", "output", "memory")
        asked = ("neighbours", "seed", "step", "smoothing", "members")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in (*read, *asked)}

    def _views(self, statistics: Floats) -> Views:
        """The columns of the statistics as what the members look at."""
        logits, *layers = (statistics[:, start:end] for start, end in pairwise((0, *np.cumsum(self._widths))))
        loss = layers.pop()[:, 0] if self._smooths else None
        changed = layers.pop() if self._shakes else None
        count = len(layers) - self._active
        norms = statistics[:, sum(self._widths) :]
        return Views(logits, tuple(layers[:count]), norms, tuple(layers[count:]), changed, loss)

    def _asked(self) -> tuple[Member, ...]:
        made = guard_members(self.neighbours, self.members, stability=self._shakes, consistency=self._smooths)
        return made if self._active else tuple(one for one in made if not isinstance(one, ActivityDistance))

    def _fitted(self) -> Fusion:
        if self._fusion is None:
            raise NotFittedError("the detector has learnt nothing yet; call fit(known) first")
        return self._fusion


def guard_members(
    neighbours: int, members: Members = "seven", *, stability: bool = False, consistency: bool = True
) -> tuple[Member, ...]:
    """The members of Guard.

    Args:
        neighbours: k of the density of the norms.
        members: How many.
        stability: Whether there is one more, for the changes under a step of the input.
        consistency: Whether there is one more, for the prediction when the image is smoothed.
    """
    seven = members == "seven"
    asked: list[Member] = [FeatureDistance(), LogitDistance(), LogitEnergy()]
    asked += [Confidence()] if seven else []
    asked += [LayerDistance(divided=not seven)]
    asked += [ActivityDistance()] if seven else []
    asked += [ChangeDistance()] if stability else []
    asked += [Consistency()] if consistency else []
    return (*asked, NormDistance(neighbours))
