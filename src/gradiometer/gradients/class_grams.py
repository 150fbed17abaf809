"""Inner products between the gradients of the logits of each sample, from which the squared norm for any label follows.

The gradient of a loss is a combination of the gradients of the logits, with the derivatives `s = dJ/dz` as weights. So
its squared norm is `s' K s`, where `K` holds the inner products of the gradients of the logits: the block of one sample
of the empirical neural tangent kernel (Jacot et al., NeurIPS 2018), for each parameter tensor on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gradiometer.errors import InputError
from gradiometer.gradients import samples
from gradiometer.gradients.factors import Dense, Factor, exact
from gradiometer.gradients.objectives import Loss, Objective, logits_of
from gradiometer.gradients.passes import Subject, attempted, walk
from gradiometer.gradients.readings import Readings
from gradiometer.gradients.seeds import seeds_of
from gradiometer.gradients.state import left_as_found
from gradiometer.gradients.together import Together, products


@dataclass(frozen=True)
class ClassGrams:
    """Inner products between the gradients of the logits.

    Attributes:
        outputs: The logits (B, C), in the model's dtype.
        values: float64 (B, T, N, N): for each sample and parameter tensor the Gram matrix of the gradients of N logits.
        parameters: Names of the T parameter tensors.
        classes: Numbers of the N logits; all C of them unless others were chosen.
    """

    outputs: Tensor
    values: Tensor
    parameters: tuple[str, ...]
    classes: tuple[int, ...]

    def __len__(self) -> int:
        """Number of samples B."""
        return len(self.values)

    def __getitem__(self, parameter: str) -> Tensor:
        """The Gram matrices of one parameter tensor, (B, N, N).

        Raises:
            InputError: If there is no such parameter among the readings.
        """
        if parameter not in self.parameters:
            raise InputError(f"no Gram matrices of {parameter!r}; there are: {', '.join(self.parameters)}")
        return self.values[:, self.parameters.index(parameter)]

    def squared_norms(self, objective: Objective | Loss, inputs: Any = None) -> Readings:
        """Squared L2 norm of each sample's gradient for an objective, without another pass.

        Each is `s' K s`. It equals what `Gradiometer.squared_norms` reads for that objective up to rounding, which is
        relative to the largest of the gradients that are combined: if they cancel to zero, the sum is zero or tiny.

        Args:
            objective: Any objective on the logits, of one label or of several.
            inputs: What went into the model, for an objective that looks at it.

        Returns:
            Readings with values (B, T), or (B, L, T) for an objective of L labels.

        Raises:
            InputError: If only some of the classes are there, and the objective depends on others.
        """
        seeds = seeds_of(objective, self.outputs, inputs)
        chosen = torch.tensor(self.classes, device=seeds.device)
        slopes = seeds[:, :, chosen]
        if not torch.equal(slopes.ne(0).sum(), seeds.ne(0).sum()):
            raise InputError(
                f"{objective!r} depends on other logits than the {len(self.classes)} whose Gram matrices were read; "
                "read those of all classes"
            )
        spread = torch.einsum("lbc,btcd->lbtd", slopes, self.values)
        squares = torch.einsum("lbtd,lbd->blt", spread, slopes).clamp(min=0)
        several = getattr(objective, "several", False)
        return Readings(self.outputs, squares if several else squares[:, 0], self.parameters)


def class_grams(
    subject: Subject, x: Any, batch: int, classes: Sequence[int] | None, block: int, room: int
) -> ClassGrams:
    """The Gram matrices for a batch that fits into memory.

    What is sent back are not the logits one by one but differences between them, and their mean: gradients that all
    logits have in common, which may be much larger than the differences and cancel in most losses, stay apart.

    Args:
        subject: What is read.
        x: B samples.
        batch: Their number B.
        classes: Numbers of the logits, or None for all.
        block: Number of directions that are kept at a time.
        room: Samples of all directions together up to which several directions may be sent back at once.

    Raises:
        InputError: If there is no such class.
        ModelError: If the outputs are no logits.
    """
    return attempted(subject.program, lambda: _attempt(subject, x, batch, classes, block, room))


def _attempt(subject: Subject, x: Any, batch: int, classes: Sequence[int] | None, block: int, room: int) -> ClassGrams:
    at_once = subject.program.at_once(room, batch)
    with walk(subject, x, batch, stacks=at_once > 1) as way:
        logits = logits_of(way.outputs)
        chosen = _checked(classes, logits.shape[1])
        directions = contrasts(len(chosen)).to(way.outputs.dtype)
        seeds = way.outputs.new_zeros(len(chosen), logits.shape[1])
        seeds[:, list(chosen)] = directions.to(seeds.device)
        sent = seeds.unsqueeze(1).expand(-1, batch, -1)
        if min(at_once, len(chosen)) > 1 and subject.program.stacks is None:
            way.every(sent[:2], lambda _, factor: factor.squared_norms(), 2, last=False)  # is it possible?
        together = Together(subject.parameters, batch, len(chosen), logits.device)
        for start in range(0, len(chosen), block):
            held = range(start, min(start + block, len(chosen)))
            together.open(held)
            for turn in [*_turns(held, at_once), *_turns(range(held.stop, len(chosen)), at_once)]:
                together.turn(turn)
                last = held.stop == turn.stop == len(chosen)
                way.every(sent[turn.start : turn.stop], together.take, at_once, last=last)
            together.close()
    if looped := way.looped | together.doubtful:
        loop = subject.loop(looped)
        with left_as_found(subject.model, loop.parameters.values()):
            for at in range(batch):
                one = samples.take(x, at, at + 1)
                found = [loop.statistics(one, seed.unsqueeze(0), 1, _explicit) for seed in seeds]
                for name in loop.parameters:
                    together.values[name][at] = products(1, [Dense(part[name]) for part in found])[0]
    back = torch.linalg.inv(exact(directions).cpu()).to(next(iter(together.values.values())))
    values = torch.stack([back @ together.values[name] @ back.mT for name in subject.parameters], 1)
    return ClassGrams(way.outputs, (values + values.mT) / 2, tuple(subject.parameters), chosen)


def _turns(numbers: range, most: int) -> list[range]:
    """Ranges of at most so many numbers."""
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def contrasts(count: int) -> Tensor:
    """The mean of some logits, and the differences of each to the mean of those before it: float64 (count, count).

    The rows are orthogonal. Their entries are integers over a power of two, which short types hold without rounding.
    """
    rows = torch.ones(count, count, dtype=torch.float64).tril(-1) - torch.arange(count).double().diag()
    rows[0] = 1
    return rows / torch.exp2(torch.ceil(torch.log2(rows.norm(dim=1, keepdim=True))))


def _checked(classes: Sequence[int] | None, count: int) -> tuple[int, ...]:
    chosen = tuple(range(count)) if classes is None else tuple(classes)
    if outside := [number for number in chosen if not 0 <= number < count]:
        raise InputError(f"no class {outside[0]}: the model has classes 0 to {count - 1}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"classes must be different numbers of logits, at least one, got {list(chosen)}")
    return chosen


def _explicit(_: str, factor: Factor) -> Tensor:
    return factor.gradients(0, factor.batch)
