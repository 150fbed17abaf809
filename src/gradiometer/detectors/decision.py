"""The decision network H, which learns to tell the readings of known images from those of a challenge."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from gradiometer import given
from gradiometer.detectors.scaling import Floats, LogScale, check_statistics
from gradiometer.errors import InputError, NotFittedError

Integers = npt.NDArray[np.int64]

_FEWEST = 10
"""Images of each side below which there is nothing to learn from."""

_ALONE = threading.Lock()
_WEIGHTS = ("hidden.weight", "hidden.bias", "out.weight", "out.bias")


class DecisionNetwork:
    """Two fully connected layers on standardised logs of the statistics: F -> hidden -> 1, with a ReLU between.

    The lecture's detector H (Lee and AlRegib, "Open-Set Recognition with Gradient-Based Representations", ICIP 2021,
    names two fully connected layers; width, optimiser and stopping are our choice). It is trained with binary
    cross-entropy on logits, both sides weighing the same, by Adam, and stopped early on the AUROC of a validation
    part that shares no base image with the training part. Everything is float64 and seeded; the global random state
    is left alone.

    Args:
        hidden: Width of the hidden layer.
        seed: Of the split, the first weights and the order of the samples.
        epochs: Most passes over the training part.
        patience: Passes without a better validation AUROC after which it stops.
        learning_rate: Of Adam.
        batch_size: Samples of a step.
        validation: Share of the base images that is held out.

    Attributes:
        scale: The scale of the logs (learnt from the known images of the training part), after fit.
        validation_auroc: The AUROC on the validation part, in [0, 1], after fit.
    """

    def __init__(
        self,
        hidden: int = 128,
        seed: int = 0,
        *,
        epochs: int = 200,
        patience: int = 20,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        validation: float = 0.2,
    ) -> None:
        self.hidden = given.whole("hidden", hidden)
        self.seed = given.whole("seed", seed, least=0)
        self.epochs = given.whole("epochs", epochs)
        self.patience = given.whole("patience", patience)
        self.learning_rate = given.number("learning_rate", learning_rate, "a number above 0, such as 1e-3", above=0)
        self.batch_size = given.whole("batch_size", batch_size)
        wanted = "a share between 0 and 1, such as 0.2"
        self.validation = given.number("validation", validation, wanted, above=0, below=1)
        self.scale: LogScale | None = None
        self.validation_auroc = float("nan")
        self._weights: tuple[Tensor, ...] | None = None

    def fit(
        self,
        known: npt.ArrayLike,
        challenges: npt.ArrayLike,
        known_groups: npt.ArrayLike | None = None,
        challenge_groups: npt.ArrayLike | None = None,
    ) -> DecisionNetwork:
        """Learn from the statistics of known images and of a challenge.

        Args:
            known: (N, F), non-negative.
            challenges: (M, F), the same statistics.
            known_groups: Base image of each known row (N,). Rows of the same base image, on both sides, fall into
                the same part. None: each row is its own.
            challenge_groups: The same for the challenge (M,), with the same numbering.

        Returns:
            Itself.

        Raises:
            InputError: Too few images, unusable values, or no split by base image with both sides in both parts.
        """
        first = check_statistics(known)
        second = check_statistics(challenges, first.shape[1])
        if min(len(first), len(second)) < _FEWEST:
            raise InputError(
                f"{len(first)} known image(s) and {len(second)} challenge(s) are too few for a decision network; give "
                f"{_FEWEST} or more of each, or fit without challenges"
            )
        target = np.concatenate([np.zeros(len(first)), np.ones(len(second))])
        held_out = self._split(target, *_groups(known_groups, challenge_groups, len(first), len(second)))
        values = np.concatenate([first, second])
        self.scale = LogScale.fit(values[~held_out & (target == 0)])
        # Whoever fits may be inside inference mode or no_grad.
        with torch.inference_mode(False), torch.enable_grad(), _one_thread():
            x, y = torch.from_numpy(self.scale.standardise(values)), torch.from_numpy(target)
            self._train(x[~held_out], y[~held_out], x[held_out], y[held_out])
        return self

    def score(self, values: npt.ArrayLike) -> Floats:
        """Log-odds that an input is a challenge, both sides weighing the same.

        Args:
            values: (M, F), non-negative.

        Returns:
            (M,) float64, any real number.

        Raises:
            InputError: The values are unusable or F differs from that of fit.
            NotFittedError: Before fit.
        """
        if self.scale is None or self._weights is None:
            raise NotFittedError("the decision network has learnt nothing yet; call fit first")
        with torch.no_grad():
            scores: Floats = _logits(torch.from_numpy(self.scale.standardise(values)), self._weights).numpy()
        return scores

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays that [restore][gradiometer.detectors.decision.DecisionNetwork.restore] takes."""
        if self.scale is None or self._weights is None:
            raise NotFittedError("the decision network has nothing to save yet; call fit first")
        return {
            **{f"scale.{name}": value for name, value in self.scale.state().items()},
            **{name: weight.numpy() for name, weight in zip(_WEIGHTS, self._weights, strict=True)},
            "validation_auroc": np.array([self.validation_auroc]),
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[np.generic]]) -> DecisionNetwork:
        """Build a fitted network from its state."""
        weights = tuple(torch.from_numpy(np.array(state[name], dtype=np.float64)) for name in _WEIGHTS)
        network = cls(hidden=weights[0].shape[0])
        network.scale = LogScale.restore({n.removeprefix("scale."): v for n, v in state.items() if "scale." in n})
        network.validation_auroc = float(np.asarray(state["validation_auroc"])[0])
        network._weights = weights
        return network

    def _split(self, target: Floats, known_groups: Integers, challenge_groups: Integers) -> npt.NDArray[np.bool_]:
        groups = np.concatenate([known_groups, challenge_groups])
        unique = np.random.default_rng(self.seed).permutation(np.unique(groups))
        held_out = np.isin(groups, unique[: max(1, round(len(unique) * self.validation))])
        for part, mask in (("training", ~held_out), ("validation", held_out)):
            sides = [int((target[mask] == side).sum()) for side in (0, 1)]
            if min(sides) == 0:
                raise InputError(
                    f"the split by base image left {sides[0]} known and {sides[1]} challenging images in the {part} "
                    f"part ({len(unique)} base images); give images of more base images"
                )
        return held_out

    def _train(self, x: Tensor, y: Tensor, x_held_out: Tensor, y_held_out: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        weights = _first_weights(x.shape[1], self.hidden, generator)
        optimiser = torch.optim.Adam(weights, lr=self.learning_rate, fused=True)
        balance = (y == 0).sum().double() / (y == 1).sum()
        best, best_weights, waited = (-1.0, -float("inf")), tuple(w.detach().clone() for w in weights), 0
        for _ in range(self.epochs):
            for index in torch.randperm(len(x), generator=generator).split(self.batch_size):
                optimiser.zero_grad()
                loss = F.binary_cross_entropy_with_logits(_logits(x[index], weights), y[index], pos_weight=balance)
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                logits = _logits(x_held_out, weights)
                remaining = F.binary_cross_entropy_with_logits(logits, y_held_out, pos_weight=balance)
            # A separable challenge reaches an AUROC of 1 at once; the loss then says which weights are better.
            reached = (float(roc_auc_score(y_held_out.numpy(), logits.numpy())), -float(remaining))
            if reached > best:
                best, best_weights, waited = reached, tuple(w.detach().clone() for w in weights), 0
            else:
                waited += 1
                if waited >= self.patience:
                    break
        self.validation_auroc = best[0]
        self._weights = best_weights


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread.

    The steps are so small that several threads would only wait for each other, for minutes on a busy machine; and so
    the result does not depend on their number.
    """
    # The number is that of the whole process: of two fits at once each would put back what the other had set.
    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _logits(x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
    hidden_weight, hidden_bias, out_weight, out_bias = weights
    return F.linear(F.relu(F.linear(x, hidden_weight, hidden_bias)), out_weight, out_bias).squeeze(1)


def _first_weights(features: int, hidden: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Weights and biases drawn uniformly within 1 / sqrt(inputs), as torch's Linear does."""
    shapes = (((hidden, features), features), ((hidden,), features), ((1, hidden), hidden), ((1,), hidden))
    return tuple(
        ((torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1) / inputs**0.5).requires_grad_()
        for shape, inputs in shapes
    )


def _groups(
    known: npt.ArrayLike | None, challenges: npt.ArrayLike | None, known_count: int, challenge_count: int
) -> tuple[Integers, Integers]:
    """Group numbers of both sides; rows without one become groups of their own, apart from all others."""
    given = [np.asarray(g, dtype=np.int64) for g in (known, challenges) if g is not None]
    free = 1 + max((int(g.max(initial=0)) for g in given), default=0)
    first = np.arange(free, free + known_count) if known is None else given[0]
    second = np.arange(free + known_count, free + known_count + challenge_count) if challenges is None else given[-1]
    if first.shape != (known_count,) or second.shape != (challenge_count,):
        raise InputError(
            f"groups have shapes {first.shape} and {second.shape} for {known_count} known and {challenge_count} "
            "challenging images; give one number for each image"
        )
    return first, second
