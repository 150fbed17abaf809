"""Linear probes: what a frozen encoder has learnt, read by logistic regression on its features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from gradiometer.data import Cohort, shared_patients, to_unit
from gradiometer.data.cohort import shared_images
from gradiometer.detectors.fingerprints import TOLERATED
from gradiometer.errors import InputError
from gradiometer.models.training import evaluating

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Heads = Literal["separate", "joint"]

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse strengths of the penalty among which the folds choose."""

_FOLDS = 5
_STEPS = 2000


@dataclass(frozen=True, eq=False)
class Reading:
    """What a probe says about one target.

    Attributes:
        target: Name of the column.
        rows: int64 (M,): the test images whose value is known.
        truth: int64 (M,): their classes.
        shares: float64 (M, C): probability of each class.
        values: The C values of the column that the classes stand for, ascending.
        train: Number of images that the head was fitted on.
    """

    target: str
    rows: Integers
    truth: Integers
    shares: Floats
    values: tuple[float, ...]
    train: int

    @property
    def predicted(self) -> Integers:
        """The most likely class (M,)."""
        called: Integers = self.shares.argmax(axis=1)
        return called


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """What probes say about all targets.

    Attributes:
        readings: One for each target.
        clusters: int64 (N,): patient of each test image, or the image itself; intervals resample these.
        patientwise: Whether patients are known on both sides and none is on both.
        shared: Patients that are on both sides.
        heads: How the heads were fitted.
        doubles: Test images that are among the training images too, where patients are not known.
    """

    readings: tuple[Reading, ...]
    clusters: Integers
    patientwise: bool
    shared: tuple[str, ...]
    heads: Heads
    doubles: int = 0


@torch.no_grad()
def features_of(encoder: nn.Module, images: Tensor, batch_size: int = 128) -> Floats:
    """Features (N, D) of images, uint8 (N, K, H, W), by a frozen encoder in evaluation mode, which is left as found."""
    device = next(encoder.parameters()).device
    with evaluating(encoder):
        parts = [encoder(to_unit(part).to(device)).double().cpu().numpy() for part in images.split(batch_size)]
    return np.concatenate(parts)


def check_split(train: Cohort, test: Cohort, *, allow_shared: bool = False) -> tuple[str, ...]:
    """Patients with images on both sides of a split. Where patients are not known, the images are compared instead.

    Args:
        train: Images that heads are fitted on.
        test: Images that they are tested on.
        allow_shared: Whether there may be any.

    Raises:
        InputError: There are some, and they may not be; or more than 1 in 100 of the test images are among the training
            images (a smaller share, as doubles in real collections, is a UserWarning).
    """
    shared = shared_patients(train, test)
    if shared and not allow_shared:
        shown = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        raise InputError(
            f"{len(shared)} of {len({*(test.patients or ())})} test patients are in the training images too ({shown}), "
            "so that the test would ask for what was seen; divide by patient, or allow it with allow_shared=True, "
            "which the record then says"
        )
    doubles = shared_images(train, test)
    if len(doubles) and not allow_shared:
        found = (
            f"{len(doubles)} of {len(test)} test images are among the training images too (the first is "
            f"{test.images.names[doubles[0]]!r})"
        )
        if len(doubles) > TOLERATED * len(test):
            raise InputError(
                f"{found}, so that the test would ask for what was seen; leave them out, or allow it with "
                "allow_shared=True, which the record then says"
            )
        warnings.warn(f"{found}; figures may be slightly too good", UserWarning, stacklevel=3)
    return shared


def probe(
    encoder: nn.Module,
    train: Cohort,
    test: Cohort,
    targets: Sequence[str],
    *,
    heads: Heads = "separate",
    allow_shared: bool = False,
    strengths: Sequence[float] = STRENGTHS,
    batch_size: int = 128,
) -> ProbeResult:
    """Fit linear heads on the features of a frozen encoder, and read them on test images.

    A head is a logistic regression on features of mean 0 and deviation 1, at its optimum; multinomial when a target
    has more than two values. The strength of its penalty is chosen among the training images, in five folds that share
    no patient, by the log loss. With `separate` heads, each target has its own, fitted on all images whose value is
    known. `joint` heads are one linear layer with a sigmoid for each target, fitted on the images whose values are all
    known, with one strength: the multi-label head of Kokilepersaud et al. The published heads stop after 25 epochs of
    gradient descent on augmented images; at the optimum there is nothing to tune, and nothing random.

    Args:
        encoder: Gives features (B, D) of images (B, K, H, W) in [0, 1].
        train: Images that heads are fitted on.
        test: Images that they are tested on.
        targets: Columns of both. A target that says `column>=number` is whether a value is that large.
        heads: See above.
        allow_shared: Whether patients may be on both sides.
        strengths: Inverse strengths of the penalty to choose from.
        batch_size: Images that go through the encoder at once.

    Returns:
        The readings.

    Raises:
        InputError: A patient or an image is on both sides, a target has fewer than two values among the training
            images, or none among the test images.
    """
    if heads not in get_args(Heads):
        raise InputError(f"heads is {heads!r}; give one of {', '.join(get_args(Heads))}")
    shared = check_split(train, test, allow_shared=allow_shared)
    if not targets:
        raise InputError("there is no target to probe for; name at least one column")
    known, unknown = (features_of(encoder, part.images.images, batch_size) for part in (train, test))
    groups = train.images.groups.numpy()
    columns = {name: (target_of(train, name), _told_alike(train, test, name)) for name in targets}
    rows = {name: np.flatnonzero(~np.isnan(column)) for name, (column, _) in columns.items()}
    if heads == "joint":
        everywhere = np.flatnonzero(~np.isnan(np.stack([column for column, _ in columns.values()])).any(axis=0))
        rows = dict.fromkeys(columns, everywhere)
        strengths = (_joint_strength(known, columns, everywhere, groups, strengths),)
    readings = []
    for name, (fit, ask) in columns.items():
        values, classes = _classes(name, fit[rows[name]])
        head = _fitted(known[rows[name]], classes, groups[rows[name]], strengths)
        there = np.flatnonzero(np.isin(ask, values))
        if not len(there):
            raise InputError(f"no test image has a value of {name!r} that the training images have; leave it out")
        readings.append(
            Reading(
                name,
                there,
                np.searchsorted(values, ask[there]).astype(np.int64),
                head.predict_proba(unknown[there]),
                tuple(float(value) for value in values),
                len(rows[name]),
            )
        )
    patientwise = train.patients is not None and test.patients is not None and not shared
    doubles = len(shared_images(train, test))
    return ProbeResult(tuple(readings), test.images.groups.numpy(), patientwise, shared, heads, doubles)


def target_of(cohort: Cohort, name: str) -> Floats:
    """The values (N,) of a target, NaN where they are missing.

    Args:
        cohort: The images.
        name: A column, or `column>=number` for whether a value is that large.

    Raises:
        InputError: There is no such column, no number behind the sign, or text in the column, which has no order.

    Example:
        >>> from gradiometer.data import Images
        >>> graded = Cohort(Images.of(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)), {"grade": np.array([0.0, 2.0, 4.0])})
        >>> target_of(graded, "grade>=2").tolist()
        [0.0, 1.0, 1.0]
    """
    column, sign, number = name.partition(">=")
    if not sign:
        return cohort.column(column.strip())
    values = cohort.ordered(column.strip())
    try:
        least = float(number)
    except ValueError:
        raise InputError(f"the target {name!r} has no number behind >=; write it as grade>=2") from None
    return np.where(np.isnan(values), np.nan, (values >= least).astype(np.float64))


def _told_alike(train: Cohort, test: Cohort, name: str) -> Floats:
    """The values (N,) of a target of the test images; texts have the numbers that they have in training.

    A text that training does not have is missing.
    """
    values = target_of(test, name)
    known, asked = (part.words.get(name) for part in (train, test))
    if known == asked:
        return values
    if known is None or asked is None:
        raise InputError(
            f"the target {name!r} is text in the {'test' if known is None else 'training'} images and numbers in the "
            "others; make both alike"
        )
    number = {text: float(place) for place, text in enumerate(known.texts)}
    numbers = np.array([number.get(text, np.nan) for text in asked.texts])
    told = np.full(len(values), np.nan)
    there = ~np.isnan(values)
    told[there] = numbers[values[there].astype(np.int64)]
    return told


def _classes(name: str, values: Floats) -> tuple[Floats, Integers]:
    """The values that are there, ascending, and the number of each one's class."""
    found, classes = np.unique(values, return_inverse=True)
    if len(found) < 2:
        there = f"only the value {found[0]:g}" if len(found) else "no value"
        raise InputError(f"the training images have {there} of {name!r}; a probe needs two or more, leave it out")
    return found, classes.reshape(-1).astype(np.int64)


def _head(strength: float) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("head", LogisticRegression(C=strength, max_iter=_STEPS))])


def _folds(groups: Integers) -> GroupKFold:
    return GroupKFold(min(_FOLDS, len(np.unique(groups))))


def _fitted(features: Floats, classes: Integers, groups: Integers, strengths: Sequence[float]) -> Pipeline:
    """A head with the strength that the folds choose; the only one when there is no choice, or no two groups."""
    if len(strengths) == 1 or len(np.unique(groups)) < 2 or not _every_fold_has_all(classes, groups):
        return _head(strengths[len(strengths) // 2]).fit(features, classes)
    search = GridSearchCV(_head(strengths[0]), {"head__C": list(strengths)}, scoring="neg_log_loss", cv=_folds(groups))
    chosen: Pipeline = search.fit(features, classes, groups=groups).best_estimator_
    return chosen


def _every_fold_has_all(classes: Integers, groups: Integers) -> bool:
    """Whether each fold leaves all classes to fit on, and asks for all of them."""
    every = set(np.unique(classes))
    parts = _folds(groups).split(classes, classes, groups)
    return all(set(np.unique(classes[part])) == every for pair in parts for part in pair)


def _joint_strength(
    features: Floats,
    columns: Mapping[str, tuple[Floats, Floats]],
    rows: Integers,
    groups: Integers,
    strengths: Sequence[float],
) -> float:
    """The strength with the lowest sum of log losses over all targets."""
    if len(rows) < 2:
        raise InputError(f"{len(rows)} training images have all of {', '.join(columns)}; use separate heads")
    losses: dict[float, float] = dict.fromkeys(strengths, 0.0)
    for name, (column, _) in columns.items():
        _, classes = _classes(name, column[rows])
        if len(np.unique(groups[rows])) < 2 or not _every_fold_has_all(classes, groups[rows]):
            continue
        for fit, ask in _folds(groups[rows]).split(rows, classes, groups[rows]):
            for strength in strengths:
                head: Any = _head(strength).fit(features[rows][fit], classes[fit])
                shares = head.predict_proba(features[rows][ask])[np.arange(len(ask)), classes[ask]]
                losses[strength] -= float(np.log(np.clip(shares, 1e-15, 1)).sum())
    if not any(losses.values()):
        return strengths[len(strengths) // 2]
    return min(losses, key=lambda strength: losses[strength])
