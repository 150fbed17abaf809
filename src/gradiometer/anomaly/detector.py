"""GradCon: what the auto-encoder cannot reconstruct, and what would update it in another direction, is abnormal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from pytorch_ood.api import DetectorInfo, Paper, Task
from torch import Tensor, nn

from gradiometer import given
from gradiometer.anomaly import columns
from gradiometer.anomaly.constraint import DECODER, constrained, unit_vectors
from gradiometer.anomaly.networks import (
    NETWORKS,
    AutoEncoder,
    VariationalAutoEncoder,
    describe_network,
    rebuild_network,
)
from gradiometer.anomaly.training import Trained
from gradiometer.data import Images
from gradiometer.detectors import Detector, Measurement, NeighbourDensity, Samples, register
from gradiometer.detectors.arguments import encode
from gradiometer.detectors.inputs import Inputs, batches
from gradiometer.detectors.profile import Profile
from gradiometer.detectors.storage import Artefact
from gradiometer.detectors.tails import FEWEST, Tail
from gradiometer.errors import ArtefactError, InputError, NotFittedError
from gradiometer.gradients import Gradiometer, Reconstruction

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]

Score = Literal[
    "combined", "fused", "reconstruction", "latent", "gradient", "density", "subspace", "whitened", "aligned"
]
"""What the score is made of."""

BETA = 0.12
"""Weight of the gradient in the published score."""

DIRECTIONS = 20
"""Dimensions of the space of `subspace`."""

_KEPT = ("score", "beta", "neighbours", "directions", "memory", "batch_size")
"""Arguments that a detector made from another one shares with it."""

MEMBERS: tuple[Score, ...] = ("reconstruction", "combined", "density")
"""What `fused` is made of: the set that was best on five validation classes of CIFAR-10."""

_AT_ONCE, _PIXELS = 256, 256 * 64 * 64
"""Images, and pixels of these, that go through the model at once when nothing else is said."""

_LEARNT = ("fused", "density")
_NETWORK, _REFERENCE, _DENSITY, _TAIL = "network.", "reference.", "density.", "tail."


@register
class GradCon(Detector):
    """Detector on an auto-encoder of normal images that was trained under the gradient constraint.

    Known-only: nothing but normal images is seen. A score costs one forward and one backward pass through the decoder,
    for a whole batch at once; it is that of the published loop over single images. The scores are

    | score | what it is |
    |---|---|
    | `combined` | reconstruction loss minus beta times the mean cosine: the published score |
    | `reconstruction` | the reconstruction loss alone, the control that needs no gradient |
    | `latent` | the latent loss of a variational auto-encoder alone |
    | `gradient` | minus the mean cosine alone |
    | `fused` | the surprise of `reconstruction`, `combined` and `density` together: ours |
    | `density` | distance to the k-th nearest normal image in the losses, and the angle and length of each gradient |
    | `subspace` | share of the gradients outside of the main directions of normal images, mean over layers: ours |
    | `whitened` | minus the cosine with the mean of normal images, in the last layer, after whitening: ours |
    | `aligned` | the sum of `whitened` and of the same cosine of the image and of its reconstruction error: ours |

    `subspace` asks for more than one direction: the reference is the mean of the gradients of normal images, which
    differ among themselves, and the space that holds most of them is learnt in fit from a second pass. `whitened` keeps
    to one direction, and lets others count less the more normal gradients vary along them; it reads the smallest of the
    constrained parameters, whose covariance can be learnt from some hundreds of images, and also takes a second pass.
    `aligned` adds what pixels say by the same rule, each part in standard deviations of normal images.

    The file of this detector holds the auto-encoder and its reference gradients too, so that one file is all there is.

    Source: Kwon, Prabhushankar, Temel and AlRegib, "Backpropagated Gradient Representations for Anomaly Detection",
    ECCV 2020.

    Args:
        model: Auto-encoder in eval mode: images (B, K, H, W) in [0, 1] to reconstructions of the same shape. An
            `AutoEncoder` of this package, or a module of yours, which the file then does not hold.
        reference: The mean gradient of each constrained parameter in training, by name, as `train` returns it; only
            its direction counts. `mean_gradient` makes one for an auto-encoder that was trained without. May be left
            out when a file is loaded.
        score: What the score is made of.
        beta: Weight of the mean cosine in `combined`.
        layers: Globs of the constrained parameters.
        neighbours: k of `density`.
        directions: Dimensions of `subspace`; never more than there are normal images.
        memory: Working memory that the gradients may take, such as `"512MiB"`; None for no limit of ours.
        batch_size: Samples that go through the model at once; when None 256, and fewer where the images of an
            `AutoEncoder` are larger than 64 x 64 pixels, so that these need no more memory.

    Raises:
        InputError: The reference does not fit the parameters, or a setting is out of range.

    Example:
        >>> from gradiometer.anomaly import make_network, mean_gradient
        >>> network = make_network("cae", channels=1, size=8, seed=0).eval()
        >>> known = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) / 4
        >>> detector = GradCon(network, mean_gradient(network, known[:30])).fit(known[:30]).calibrate(known[30:], 0.1)
        >>> detector.judge(torch.ones(1, 1, 8, 8)).trustworthy.tolist()
        [False]
    """

    info: ClassVar[DetectorInfo] = DetectorInfo(
        paper=Paper(
            title="Backpropagated Gradient Representations for Anomaly Detection",
            venue="ECCV",
            year=2020,
            url="https://arxiv.org/abs/2007.09507",
        ),
        tasks={Task.CLASSIFICATION},
    )

    def __init__(
        self,
        model: nn.Module,
        reference: Mapping[str, Tensor] | None = None,
        score: Score = "combined",
        beta: float = BETA,
        layers: str | Sequence[str] = DECODER,
        neighbours: int = 10,
        directions: int = DIRECTIONS,
        *,
        memory: str | int | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(model, batch_size=_at_once(model) if batch_size is None else batch_size)
        _check_score(score, model)
        self.score: Score = score
        self.beta = given.number("beta", beta, "a finite number")
        self.layers = layers if isinstance(layers, str) else list(layers)
        self.neighbours = given.whole("neighbours", neighbours)
        self.directions = given.whole("directions", directions)
        self.memory = memory
        #: The instrument that reads the gradients of the constrained parameters.
        self.meter = Gradiometer(model, Reconstruction(), self.layers, memory=memory)
        self.training: dict[str, Any] = {}  #: How the auto-encoder was trained, as far as it is known.
        self._density = NeighbourDensity(neighbours)
        self._tails: dict[Score, Tail] = {}
        self._learnt: columns.Learner | None = None
        self._reference = None if reference is None else unit_vectors(reference, constrained(model, self.layers))

    @classmethod
    def of(cls, trained: Trained, **settings: Any) -> GradCon:
        """The detector of a training, with its reference.

        Args:
            trained: What `train` returned.
            settings: Further arguments of the constructor.

        Returns:
            The detector, to be fitted.
        """
        layers = trained.record["recipe"]["constraint"]["layers"]
        detector = cls(trained.network, trained.reference, **{"layers": layers, **settings})
        detector.training = {name: value for name, value in trained.record.items() if name != "epochs"}
        return detector

    def again(self, **settings: Any) -> GradCon:
        """A detector on the same auto-encoder and reference, to be fitted to other images or scored otherwise.

        Args:
            settings: Arguments of the constructor that differ.
        """
        kept = {name: getattr(self, name) for name in _KEPT}
        detector = GradCon(self.model, self.reference, layers=self.layers, **{**kept, **settings})
        detector.training = self.training
        return detector

    @property
    def reference(self) -> dict[str, Tensor]:
        """The reference gradient of each constrained parameter as a unit vector, by name.

        Raises:
            NotFittedError: The detector was made without one.
        """
        if self._reference is None:
            raise NotFittedError(
                "there is no reference gradient, without which a score means nothing; give that of the training, or "
                "mean_gradient(model, known) for an auto-encoder that was trained without the constraint"
            )
        return self._reference

    def check_enough(self, known: Images) -> None:
        """Refuse images that are too few for fit, before hours of training are spent on them.

        Args:
            known: The images that fit will be given.

        Raises:
            InputError: There are fewer than the score needs.
        """
        fitted: Sized = known
        if self.score == "fused":
            fitted, kept = columns.divided(len(known), known.groups.numpy())
            if len(kept) < FEWEST:
                raise InputError(
                    f"of {len(known)} training images, fused keeps {len(kept)} for its p-values (a quarter of the base "
                    f"images), which takes {FEWEST}; give {4 * FEWEST} training images or more, or choose another score"
                )
        if self.score in _LEARNT and len(fitted) <= self.neighbours:
            raise InputError(
                f"{self.score} looks for {self.neighbours} neighbours among {len(fitted)} training images; give more, "
                "or lower neighbours"
            )

    def _fit(self, known: Any, challenges: Any) -> None:
        """Learn what normal images look like; they are read a second time for `subspace`, `whitened` and `aligned`."""
        self._learnt = None
        if (learner := self._learner()) is not None:
            read = batches(known, self.batch_size, "known images")
            known = [batch if batch.labels is None else batch.select(batch.labels >= 0) for batch in read]
            self._learnt = learner.fit([batch for batch in known if len(batch)], self.batch_size)
        super()._fit(known, challenges)

    def typical(self) -> Floats:
        """Median squared length of the gradient of each constrained parameter among the known images (L,).

        Raises:
            NotFittedError: Before fit.
        """
        if self._known is None:
            raise NotFittedError("what is typical is learnt from known images; call fit first")
        medians: Floats = np.exp(self._known.reference.median[-len(self.reference) :])
        return medians

    def _measure(self, inputs: Inputs) -> Measurement:
        if not isinstance(inputs, Tensor):
            raise InputError(f"an auto-encoder takes images (B, K, H, W), got a {type(inputs).__name__} of tensors")
        return columns.read(self.meter, self.reference, inputs, self._learnt)

    def _score(self, statistics: Floats) -> Floats:
        return self.score_by(self.score, statistics)

    def statistics(self, x: Any) -> Floats:
        """What the scores are made from, so that several of them can be had from one pass.

        Args:
            x: Images, in any form that `fit` takes.

        Returns:
            (B, F) float64: reconstruction loss, latent loss of a variational network, with `subspace` the share of
            each gradient outside of it, with `whitened` and `aligned` whitened cosines, and for each constrained
            parameter the cosine and the squared length of its gradient.

        Raises:
            InputError: As for predict.
            ModelError: As for predict.
        """
        return np.concatenate([m.statistics for _, m in self._measurements(x, "inputs", self._expected())])

    def score_by(self, score: Score, statistics: Floats) -> Floats:
        """Any of the scores (B,) from the statistics (B, F).

        Args:
            score: `density` and `fused` need a detector that was fitted for `fused`; `subspace`, `whitened` and
                `aligned` need one that was fitted for them.
            statistics: As `statistics` gives them.

        Raises:
            InputError: There is no such score, or the auto-encoder has none such.
            NotFittedError: The detector has not learnt what the score needs.
        """
        _check_score(score, self.model)
        there = {"fused": bool(self._tails), "density": self._density.scale is not None}
        there |= dict.fromkeys(columns.LEARNERS, self._learnt is not None and score == self.score)
        if not there.get(score, True):
            raise NotFittedError(f"what {score} needs is learnt by a detector with score={score!r}; call fit first")
        scores: Floats
        if score == "fused":
            # Independent p-values are put together by the sum of their logs (Fisher, 1925).
            scores = np.sum([self._tails[one].surprise(self.score_by(one, statistics)) for one in MEMBERS], axis=0)
        elif score == "reconstruction":
            scores = statistics[:, 0]
        elif score == "latent":
            scores = statistics[:, 1]
        elif score in columns.LEARNERS:
            assert self._learnt is not None
            scores = self._learnt.score(self._columns.learnt(statistics))
        elif score == "density":
            scores = self._density.score(self._columns.shape(statistics))
        else:
            scores = -self._columns.cosines(statistics).mean(1)
            if score == "combined":
                scores = statistics[:, 0] + self.beta * scores
        return scores

    def profile_of(self, statistics: Floats) -> Profile:
        """What `explain` says, from the statistics (B, F).

        Args:
            statistics: As `statistics` gives them.

        Raises:
            NotFittedError: Before fit.
        """
        if self._known is None:
            raise NotFittedError("a profile compares with known images; call fit first")
        return Profile(self._known.reference.z(self._profile(statistics)), self._profile_names(self._known.names))

    @property
    def _columns(self) -> columns.Columns:
        """Where in the statistics each of them is."""
        return columns.Columns.of(self.meter.model, len(self.reference))

    def _learn(self, known: Samples, challenges: Samples | None) -> None:
        statistics = known.statistics
        if self.score == "fused":
            # What a member was fitted on does not surprise it, so a quarter is kept for the p-values.
            fitted, kept = columns.divided(len(known), known.groups)
            self._density = NeighbourDensity(self.neighbours).fit(self._columns.shape(statistics[fitted]))
            self._tails = {one: Tail(self.score_by(one, statistics[kept])) for one in MEMBERS}
        elif self.score == "density":
            self._density = NeighbourDensity(self.neighbours).fit(self._columns.shape(statistics))

    def _profile(self, statistics: Floats) -> Floats:
        return self._columns.logs(statistics, self._learnt)

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names

    def _parameters(self) -> dict[str, Any]:
        names = ("score", "beta", "layers", "neighbours", "directions", "memory")
        return super()._parameters() | {name: encode(getattr(self, name)) for name in names}

    def _state(self) -> dict[str, Array]:
        state: dict[str, Array] = {f"{_REFERENCE}{name}": _array(value) for name, value in self.reference.items()}
        if self._holds_model():
            state |= {f"{_NETWORK}{name}": _array(value) for name, value in self.model.state_dict().items()}
        if self.score in _LEARNT:
            state |= {f"{_DENSITY}{name}": value for name, value in self._density.state().items()}
        if self._learnt is not None:
            state |= self._learnt.state()
        return state | {f"{_TAIL}{name}": tail.scores for name, tail in self._tails.items()}

    def _restore(self, state: Mapping[str, Array]) -> None:
        found = {n.removeprefix(_REFERENCE): torch.tensor(v) for n, v in state.items() if n.startswith(_REFERENCE)}
        self._reference = unit_vectors(found, constrained(self.model, self.layers))
        density = {n.removeprefix(_DENSITY): v for n, v in state.items() if n.startswith(_DENSITY)}
        if self.score in _LEARNT:
            self._density = NeighbourDensity.restore(density)
        learner = self._learner()
        self._learnt = None if learner is None else learner.restore(state)
        tails = {n.removeprefix(_TAIL): a.astype(np.float64) for n, a in state.items() if n.startswith(_TAIL)}
        self._tails = {one: Tail(tails[one]) for one in MEMBERS} if self.score == "fused" else {}

    def _describe(self) -> dict[str, Any]:
        described: dict[str, Any] = {"training": self.training}
        if self._holds_model():
            described["network"] = describe_network(self.model)
        return described

    def _holds_model(self) -> bool:
        return type(self.model) in NETWORKS.values()

    @classmethod
    def _rebuild(cls, artefact: Artefact) -> nn.Module:
        if not artefact.header.get("holds_model"):
            raise ArtefactError("the file does not hold its auto-encoder, which is one of yours; give it")
        prefix = f"state.{_NETWORK}"
        weights = {n.removeprefix(prefix): torch.tensor(a) for n, a in artefact.tensors.items() if n.startswith(prefix)}
        return rebuild_network(artefact.get("about")["network"], weights)

    def _recall(self, described: Mapping[str, Any]) -> None:
        self.training = dict(described.get("training", {}))

    def _learner(self) -> columns.Learner | None:
        """What learns from the gradients of normal images for the score, when it needs that."""
        if self.score not in columns.LEARNERS:
            return None
        return columns.make_learner(self.score, self.model, self.layers, self.directions, self.memory)


def _array(value: Tensor) -> Array:
    """A tensor as an array; NumPy has no bfloat16, whose numbers float32 holds exactly."""
    value = value.detach().cpu()
    array: Array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return array


def _check_score(score: str, model: nn.Module) -> None:
    """Refuse scores that do not exist, or not of this auto-encoder."""
    if score not in get_args(Score):
        raise InputError(f"score must be one of {', '.join(get_args(Score))}, got {score!r}")
    if score == "latent" and not isinstance(model, VariationalAutoEncoder):
        raise InputError("only a variational auto-encoder has a latent loss; choose another score")


def _at_once(model: nn.Module) -> int:
    """Images that go through an auto-encoder at once; the size of images is known of one of ours alone."""
    if not isinstance(model, AutoEncoder):
        return _AT_ONCE
    height, width = model.extent
    return min(_AT_ONCE, max(1, _PIXELS // (height * width)))
