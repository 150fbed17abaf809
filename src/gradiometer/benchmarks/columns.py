"""The known-only detectors of a table, fitted and calibrated on shared readings."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import entr, softmax
from torch import nn

from gradiometer.benchmarks.evidence import PSEUDO_LABEL, Evidence
from gradiometer.benchmarks.metrics import Floats
from gradiometer.benchmarks.protocols import Indices
from gradiometer.detectors import (
    GAIA,
    KNN,
    MSP,
    Calibration,
    Detector,
    Energy,
    ExGrad,
    Fusion,
    GradNorm,
    GradPCA,
    GradTrust,
    Mahalanobis,
    NeighbourDensity,
    NormalizedMahalanobis,
    ReAct,
    ViM,
)
from gradiometer.detectors.consistency import loss_when_smoothed
from gradiometer.detectors.gaussians import ClassGaussians
from gradiometer.detectors.guard import Members, guard_members
from gradiometer.detectors.members import Views
from gradiometer.detectors.squeezing import moved_probabilities
from gradiometer.detectors.subspace import MeanSubspace, outside
from gradiometer.errors import InputError

Score = Callable[[Evidence], Floats]

_SHARE = 0.99
"""What the directions of GradPCA hold of the spread of class means."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What a known-only detector may learn from.

    Attributes:
        head: The last linear layer of the model, a model of its own that maps features to logits.
        labels: Classes (N,) of the known images.
        groups: Base images (N,).
        evidence: Their readings.
        neighbours: k of the densities.
        seed: Of what a detector draws.
    """

    head: nn.Linear
    labels: torch.Tensor | None
    groups: Indices
    evidence: Evidence
    neighbours: int
    seed: int


@dataclass(frozen=True)
class Entry:
    """A known-only detector that a table can show.

    Attributes:
        name: Its name.
        make: Fits it; what comes out maps readings of N images to outlier scores (N,).
        control: Whether it reads forward-only statistics, as the control of a gradient detector.
        reads: What the reader runs on the images themselves, for `make` to take its scores: a detector, made of a model
            and a batch size.
        needs: Name of a direct reading without which there is nothing to score, or empty.
    """

    name: str
    make: Callable[[Fit], Score]
    control: bool = False
    reads: Callable[..., Detector] | None = None
    needs: str = ""


@dataclass(frozen=True, eq=False)
class Column:
    """A known-only detector with its scores of all held-out known images.

    Attributes:
        detector: Its name.
        control: Whether it reads forward-only statistics, as the control of a gradient detector.
        score: Maps readings of N images to outlier scores (N,).
        known: Scores of the held-out known images.
        calibration: From those of them that are not tested.
        seconds: Time for fitting, and for scoring the held-out images.
    """

    detector: str
    control: bool
    score: Score
    known: Floats
    calibration: Calibration
    seconds: float


def on_head(kind: Callable[[nn.Module], Detector]) -> Callable[[Fit], Score]:
    """A detector on logits and features: it runs on the last layer as if it were the model, with features as inputs."""

    def make(fit: Fit) -> Score:
        detector = kind(fit.head)
        if detector.requires_fit:
            detector.fit((torch.from_numpy(fit.evidence.features), fit.labels))
        return lambda evidence: detector.predict(torch.from_numpy(evidence.features)).numpy()

    return make


def _direct(name: str) -> Callable[[Fit], Score]:
    """A detector that needs the images themselves: the reader has run it already."""
    return lambda fit: lambda evidence: evidence.direct[name]


def _density(gradients: bool) -> Callable[[Fit], Score]:
    """What Purview and its control score without challenges."""

    def make(fit: Fit) -> Score:
        density = NeighbourDensity(fit.neighbours).fit(_norms(fit.evidence, gradients))
        return lambda evidence: density.score(_norms(evidence, gradients))

    return make


def _squeezing(_: Fit) -> Score:
    """How far the probabilities move when images are smoothed."""

    def score(evidence: Evidence) -> Floats:
        distances: Floats = np.abs(moved_probabilities(evidence.logits, evidence.smoothed)).sum(1)
        return distances

    return score


def _entropy(_: Fit) -> Score:
    """The entropy of the softmax probabilities, in nats."""

    def score(evidence: Evidence) -> Floats:
        entropies: Floats = entr(softmax(evidence.logits.astype(np.float64), axis=1)).sum(1)
        return entropies

    return score


def _pseudo_label(_: Fit) -> Score:
    """The squared norm of the whole gradient under the predicted label (Oberdiek et al., ANNPR 2018)."""

    def score(evidence: Evidence) -> Floats:
        total: Floats = evidence.direct[PSEUDO_LABEL].astype(np.float64).sum(1)
        return total

    return score


def _layers(fit: Fit) -> Score:
    """The published distances of all layers, added up."""
    labels = class_labels(fit)
    gaussians = [ClassGaussians.fit(values, labels, shrink=False) for values in pooled(fit.evidence)]

    def score(evidence: Evidence) -> Floats:
        distances = [g.nearest(v) / 2 for g, v in zip(gaussians, pooled(evidence), strict=True)]
        total: Floats = np.sum(distances, axis=0)
        return total

    return score


def _mean_subspace(fit: Fit) -> Score:
    """What GradPCA does to gradients, done to the features."""
    labels, features = class_labels(fit), fit.evidence.features.astype(np.float64)
    means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
    found = MeanSubspace.fit(means, _SHARE)
    return lambda evidence: outside(*found.squares(evidence.features.astype(np.float64)))


def _guard(
    *,
    gradients: bool = False,
    without: str = "",
    step: bool = False,
    smoothing: bool = True,
    members: Members = "seven",
) -> Callable[[Fit], Score]:
    """The members of Guard on the shared readings, or all but one; with a step one more, without smoothing one less."""

    def make(fit: Fit) -> Score:
        asked = guard_members(fit.neighbours, members, stability=step, consistency=smoothing)
        fusion = Fusion([member for member in asked if member.name != without], fit.seed)
        fusion.fit(_views(fit.evidence, gradients), class_labels(fit), fit.groups)
        return lambda evidence: fusion.score(_views(evidence, gradients))

    return make


ENTRIES: tuple[Entry, ...] = (
    Entry("MSP", on_head(MSP)),
    Entry("Energy", on_head(Energy)),
    Entry("ODIN", _direct("ODIN")),
    Entry("Mahalanobis", on_head(Mahalanobis)),
    Entry("Mahalanobis (layers)", _layers),
    Entry("Normalised Mahalanobis", on_head(NormalizedMahalanobis)),
    Entry("KNN", on_head(KNN)),
    Entry("ViM", on_head(ViM)),
    Entry("ReAct", on_head(ReAct)),
    Entry("GradNorm", on_head(GradNorm)),
    Entry("Feature squeezing", _squeezing),
    Entry("Purview", _density(gradients=True)),
    Entry("Control", _density(gradients=False), control=True),
    Entry("Guard", _guard(), control=True),
    Entry("Guard of seven", _guard(smoothing=False), control=True),
    Entry("Guard of five", _guard(smoothing=False, members="five"), control=True),
    Entry("Guard with a step", _guard(step=True), control=True),
    Entry("Guard with gradients", _guard(gradients=True)),
)
"""All known-only detectors, in the order of a table. One more is one entry."""

TRUST: tuple[Entry, ...] = (
    Entry("Entropy", _entropy),
    Entry("ExGrad", on_head(ExGrad)),
    Entry("GradTrust", on_head(GradTrust)),
    Entry("Pseudo-label norm", _pseudo_label, needs=PSEUDO_LABEL),
)
"""Detectors that were made for wrong predictions, or are close to those; shown where they are asked for by name."""

ABLATION: tuple[Entry, ...] = tuple(
    Entry(f"Guard without {member.name}", _guard(without=member.name), control=True) for member in guard_members(1)
)
"""Guard without one of its members; shown where they are asked for by name."""

GRADIENTS: tuple[Entry, ...] = (
    Entry("GAIA-Z", _direct("GAIA-Z"), reads=GAIA),
    Entry("GAIA-Z control", _direct("GAIA-Z control"), control=True, reads=partial(GAIA, gradients=False)),
    Entry("GAIA-A", _direct("GAIA-A"), reads=partial(GAIA, form="channel-average")),
    Entry("GAIA-A control", on_head(partial(GAIA, form="channel-average", gradients=False)), control=True),
    Entry("GradPCA", _direct("GradPCA"), reads=partial(GradPCA, share=_SHARE)),
    Entry("GradPCA control", _mean_subspace, control=True),
)
"""Published scores that need a backward pass of their own, each before its control; shown where they are asked for by
name."""

_EVERY = (*ENTRIES, *TRUST, *ABLATION, *GRADIENTS)


def readers(detectors: Collection[str]) -> dict[str, Callable[..., Detector]]:
    """Which of some known-only detectors the reader has to run on images themselves, beside what it always runs.

    Args:
        detectors: Names.

    Returns:
        What makes each of a model and a batch size, by name.
    """
    return {entry.name: entry.reads for entry in _EVERY if entry.reads is not None and entry.name in detectors}


def known_only(
    known: Fit,
    held_out: Evidence,
    calibrate: Indices,
    false_alarm_rate: float,
    *,
    detectors: Collection[str] = (),
) -> list[Column]:
    """Fit the known-only detectors of a table.

    Args:
        known: What they learn from.
        held_out: Readings of known images that the model was not trained on.
        calibrate: Which of them set the thresholds.
        false_alarm_rate: Share of known images that may be flagged.
        detectors: Names of those to fit; all when there are none.

    Returns:
        The columns in the order of the table.

    Raises:
        InputError: There is no detector of a name, or it needs a reading that was not made.
    """
    entries = {entry.name: entry for entry in _EVERY}
    chosen = list(detectors) or [entry.name for entry in ENTRIES]
    if unknown := [name for name in chosen if name not in entries]:
        raise InputError(f"there is no known-only detector {unknown[0]!r}; there are: {', '.join(entries)}")
    if blind := [name for name in chosen if entries[name].needs and entries[name].needs not in held_out.direct]:
        raise InputError(f"{blind[0]} needs the reading {entries[blind[0]].needs!r}, which this table does not make")
    columns = []
    for entry in entries.values():
        if entry.name not in chosen:
            continue
        started = time.perf_counter()
        score = entry.make(known)
        scores = np.asarray(score(held_out), dtype=np.float64)
        calibration = Calibration(scores[calibrate], false_alarm_rate)
        seconds = time.perf_counter() - started
        columns.append(Column(entry.name, entry.control, score, scores, calibration, seconds))
    return columns


def _norms(evidence: Evidence, gradients: bool) -> Floats:
    return evidence.statistics if gradients else evidence.activations


def pooled(evidence: Evidence) -> tuple[Floats, ...]:
    """The pooled inputs of all layers, as float64."""
    return _doubled(evidence.layers)


def _views(evidence: Evidence, gradients: bool) -> Views:
    logits = evidence.logits.astype(np.float64)
    return Views(
        logits,
        pooled(evidence),
        _norms(evidence, gradients),
        _doubled(evidence.shares),
        evidence.changes,
        loss_when_smoothed(logits, evidence.smoothed),
    )


def _doubled(arrays: Sequence[npt.NDArray[np.float32]]) -> tuple[Floats, ...]:
    return tuple(values.astype(np.float64) for values in arrays)


def class_labels(fit: Fit) -> Indices:
    """The classes of the known images, or the predicted ones where there are none."""
    return fit.evidence.logits.argmax(1) if fit.labels is None else fit.labels.numpy()
