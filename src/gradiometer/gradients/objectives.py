"""What is backpropagated: a loss on the outputs, for each sample, that needs no true label.

An objective of this module gives the gradient of its loss with respect to the logits in closed form and in float64.
Differences such as `p - 1` are never formed where they would cancel, so a gradient of 1e-40 is as exact as one of 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from gradiometer import given
from gradiometer.errors import InputError, ModelError
from gradiometer.gradients.factors import exact, wide
from gradiometer.gradients.selection import one_logit_hint


@runtime_checkable
class Objective(Protocol):
    """A loss with a closed form: what an objective has to provide."""

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """Gradients of the loss with respect to the outputs.

        Args:
            outputs: Outputs of the model (B, ...), without history.
            inputs: What went into the model.

        Returns:
            float64 (N, *outputs.shape), one entry for each of the N labels; or float32 where that is as good.
        """
        ...


#: A loss without closed form: it maps outputs (B, ...) and inputs to one value for each sample, (B,).
Loss = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class ConfoundingLabel:
    """Binary cross-entropy between the logits and a label that no training image had.

    The mean over classes of `-y log s(z) - (1 - y) log s(-z)` with `dJ/dz = (s(z) - y) / C` (Lee et al., "Probing the
    Purview of Neural Networks via Gradient Analysis", IEEE Access 2023).

    Attributes:
        label: `ones`, `zeros`, or a multi-hot label: a sequence of C zeros and ones with no or at least two ones.
        reading: `logits`; or `softmax`: the cross-entropy of the softmax probabilities summed over the ones, with
            `dJ/dz_k = n p_k - y_k` for n ones.

    Raises:
        InputError: If the label has exactly one 1 (that is a class, not a confounding label) or other values.
    """

    label: Literal["ones", "zeros"] | tuple[float, ...] = "ones"
    reading: Literal["logits", "softmax"] = "logits"

    def __post_init__(self) -> None:
        """Check the label and make it immutable."""
        if self.reading not in ("logits", "softmax"):
            raise InputError(f"reading must be 'logits' or 'softmax', got {self.reading!r}")
        if self.reading == "softmax" and isinstance(self.label, str) and self.label == "zeros":
            raise InputError("the softmax reading sums over the ones of the label: 'zeros' has none and no gradient")
        if isinstance(self.label, str):
            if self.label not in ("ones", "zeros"):
                raise InputError(f"label must be 'ones', 'zeros' or a sequence of zeros and ones, got {self.label!r}")
            return
        try:
            label = tuple(float(value) for value in self.label)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"label is {self.label!r}; give 'ones', 'zeros' or a sequence of zeros and ones, one for each class"
            ) from error
        object.__setattr__(self, "label", label)
        if set(label) - {0.0, 1.0}:
            raise InputError(f"a confounding label holds zeros and ones only, got {label}")
        if sum(label) == 1:
            raise InputError(
                f"the label {label} has exactly one 1: it names a class and confounds nothing; "
                "give two or more ones, or use ContrastClasses for one-hot labels"
            )

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ/dz`, (1, B, C)."""
        logits = logits_of(outputs)
        label = self._label(logits)
        if self.reading == "softmax":
            return (label.sum() * logits.softmax(1) - label).unsqueeze(0)
        pushed_up = -torch.sigmoid(-logits)  # s(z) - 1 without cancellation
        return (torch.where(label > 0, pushed_up, torch.sigmoid(logits)) / logits.shape[1]).unsqueeze(0)

    def _label(self, logits: Tensor) -> Tensor:
        if isinstance(self.label, str):
            return torch.full_like(logits[0], float(self.label == "ones"))
        if len(self.label) != logits.shape[1]:
            raise InputError(f"the label has {len(self.label)} entries but the model has {logits.shape[1]} classes")
        return logits.new_tensor(self.label)


@dataclass(frozen=True)
class ContrastClasses:
    """Cross-entropy against each of N classes in turn: "why P rather than Q?" for every Q.

    `dJ_k/dz = p - onehot(k)` (Prabhushankar and AlRegib, "Introspective Learning", NeurIPS 2022). Readings get a
    dimension for the N classes. Each class costs one backward pass.

    Attributes:
        classes: The classes, or None for all.

    Raises:
        InputError: If they are no sequence of whole numbers.
    """

    classes: Sequence[int] | None = None
    several = True

    def __post_init__(self) -> None:
        """Check the classes and make them immutable."""
        if self.classes is not None:
            object.__setattr__(self, "classes", class_numbers(self.classes))

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ_k/dz`, (N, B, C)."""
        logits = logits_of(outputs)
        count = logits.shape[1]
        chosen = range(count) if self.classes is None else self.classes
        if outside := [index for index in chosen if not 0 <= index < count]:
            raise InputError(f"no class {outside[0]}: the model has classes 0 to {count - 1}")
        labels = [torch.full((len(logits),), index, device=logits.device) for index in chosen]
        if not labels:
            raise InputError("ContrastClasses needs at least one class")
        return torch.stack([_cross_entropy(logits, label) for label in labels])


@dataclass(frozen=True)
class RandomContrasts:
    """Random combinations of all contrast classes: their mean squared norm for a few backward passes instead of C.

    With signs `u_k` drawn once, `dJ/dz = sum_k u_k (p - onehot(k)) / sqrt(C)`. The expected squared norm is the
    mean of those of `ContrastClasses()` over the classes (Hutchinson's estimate of a trace), for each parameter tensor.
    The mean over N draws has a relative standard deviation of at most `sqrt(2 / N)`; the more directions a gradient
    takes, the less. All samples have the same signs, so their estimates are comparable.

    Attributes:
        draws: Number of draws N; readings get a dimension for them. Each costs one backward pass.
        seed: Seed of the signs.

    Raises:
        InputError: If there are no draws.

    Example:
        >>> import torch
        >>> from gradiometer import Gradiometer
        >>> model = torch.nn.Linear(4, 1000).eval()
        >>> readings = Gradiometer(model, RandomContrasts(draws=8)).squared_norms(torch.randn(5, 4))
        >>> readings.values.mean(1).shape
        torch.Size([5, 2])
    """

    draws: int = 8
    seed: int = 0
    several = True

    def __post_init__(self) -> None:
        """Check the number of draws."""
        object.__setattr__(self, "draws", given.whole("draws", self.draws))
        object.__setattr__(self, "seed", given.whole("seed", self.seed, least=0))

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ/dz`, (N, B, C)."""
        logits = logits_of(outputs)
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, (self.draws, logits.shape[1]), generator=generator).to(logits) * 2 - 1
        shares = logits.softmax(1) * signs.sum(1).view(-1, 1, 1)
        return (shares - signs.unsqueeze(1)) / math.sqrt(logits.shape[1])


@dataclass(frozen=True)
class PseudoLabel:
    """Cross-entropy against the predicted class (Oberdiek et al., ANNPR 2018): `dJ/dz = p - onehot(argmax z)`."""

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ/dz`, (1, B, C)."""
        logits = logits_of(outputs)
        return _cross_entropy(logits, logits.argmax(1)).unsqueeze(0)


@dataclass(frozen=True)
class UniformTarget:
    """Cross-entropy against equal probabilities: `dJ/dz = p - 1/C` (Huang et al., "GradNorm", NeurIPS 2021)."""

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ/dz`, (1, B, C)."""
        logits = logits_of(outputs)
        return (logits.softmax(1) - 1 / logits.shape[1]).unsqueeze(0)


@dataclass(frozen=True)
class Reconstruction:
    """Mean squared difference between input and output of an auto-encoder: `dJ/dy = 2 (y - x) / n` for n values."""

    def seeds(self, outputs: Tensor, inputs: Any) -> Tensor:
        """`dJ/dy`, (1, *outputs.shape)."""
        if not isinstance(inputs, Tensor) or inputs.shape != outputs.shape:
            shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ModelError(
                f"Reconstruction compares outputs {tuple(outputs.shape)} with inputs {shape}: they must agree; "
                "give output= to select the reconstruction"
            )
        return (wide(outputs) - wide(inputs)).mul_(2 / outputs[0].numel()).unsqueeze(0)


def class_numbers(classes: Sequence[int]) -> tuple[int, ...]:
    """The numbers of some classes.

    Raises:
        InputError: If they are no sequence of whole numbers.
    """
    try:
        return tuple(operator.index(number) for number in classes)
    except TypeError as error:
        raise InputError(
            f"classes is {classes!r}; give a sequence of class numbers, such as (3,), or None for all"
        ) from error


def logits_of(outputs: Tensor) -> Tensor:
    """The outputs as float64 logits.

    Raises:
        ModelError: If they are not (B, C) with at least two classes.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        raise ModelError(
            f"the model must return logits (B, C) with two or more classes, got {outputs.dtype} "
            f"{tuple(outputs.shape)}; give output= to select the logits, or an objective that fits these outputs"
            f"{one_logit_hint(outputs)}"
        )
    return exact(outputs)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """`p - onehot(label)`, with the label's own entry as minus the sum of all others."""
    probabilities = logits.softmax(1)
    others = probabilities.scatter(1, labels.unsqueeze(1), 0.0)
    return others.scatter(1, labels.unsqueeze(1), -others.sum(1, keepdim=True))
