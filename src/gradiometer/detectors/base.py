"""The life cycle that all detectors share: fit, calibrate, predict, judge, explain, save, load."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gradiometer import given
from gradiometer.detectors import saving, storage
from gradiometer.detectors.arguments import written
from gradiometer.detectors.calibration import Calibration, images_needed
from gradiometer.detectors.checks import check_model, check_outputs, check_signature, place_of, signature
from gradiometer.detectors.fingerprints import check_unseen, fingerprints
from gradiometer.detectors.inputs import Batch, Inputs, batches, move
from gradiometer.detectors.known import Known
from gradiometer.detectors.opinions import Opinions
from gradiometer.detectors.peer import PeerDetector
from gradiometer.detectors.profile import Profile
from gradiometer.detectors.samples import Measurement, Samples, collect
from gradiometer.detectors.verdict import Verdict
from gradiometer.detectors.witness import check_witness, witness_of
from gradiometer.errors import ArtefactError, InputError, ModelError, NotFittedError
from gradiometer.gradients.selection import Output
from gradiometer.gradients.state import buffers_as_found, exclusive, plain, uncompiled
from gradiometer.models.hashing import Seen, weights_hash

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


class Detector(PeerDetector):
    """Turns inputs into outlier scores, higher = less trustworthy, with a false-alarm rate that holds.

    The life cycle is fit, calibrate, then predict, judge and explain in any order; save and load keep all of it. A
    detector is one of pytorch-ood's as well and runs in its benchmarks. A method of one's own is a subclass with
    `_measure` (what is read off the model for a batch) and `_score`; with `_learn`, `_state` and `_restore` if it
    learns; with `_parameters` if it has arguments of its own; and with `_profile` and `_profile_names` if it can say
    more than its score. A method on models that are no classifiers gives no outputs with its measurements, and its
    verdicts hold no prediction; one that keeps its model in the file says so with `_holds_model`, and makes it again
    with `_rebuild`.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C), or what else the method is for. It is left as
            found.
        batch_size: Samples that go through the model at once, whatever the size of the batches that come in.

    Attributes:
        calibration: The calibration scores, threshold and p-values, or None before calibrate.
    """

    requires_fit = True
    learns_from_challenges = False  #: Whether fit takes challenges.

    def __init__(self, model: nn.Module, *, batch_size: int = 128) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"the model is a {type(model).__name__}; give a torch.nn.Module that returns logits")
        self.model = plain(model)
        self.batch_size = given.whole("batch_size", batch_size)
        self.calibration: Calibration | None = None
        self._known: Known | None = None
        self._seen: Seen | None = None

    # What a method brings

    @abstractmethod
    def _measure(self, inputs: Inputs) -> Measurement:
        """Read the model for a batch that has been checked."""

    @abstractmethod
    def _score(self, statistics: Floats) -> Floats:
        """Outlier scores (B,) of statistics (B, F)."""

    def _learn(self, known: Samples, challenges: Samples | None, /) -> None:
        """Learn from what was read off known images, and off challenges where there are any.

        What was learnt before is replaced and never changed: a fit that fails brings it back.
        """

    def _state(self) -> dict[str, Array]:
        """Everything learnt, as arrays by name."""
        return {}

    def _restore(self, state: Mapping[str, Array]) -> None:
        """Take back what `_state` gave."""

    def _parameters(self) -> dict[str, Any]:
        """Arguments of the constructor besides the model, as JSON values."""
        return {"batch_size": self.batch_size}

    def _describe(self) -> dict[str, Any]:
        """What else the header of the file says, as JSON values."""
        return {}

    def _holds_model(self) -> bool:
        """Whether the file holds the model, so that `_rebuild` can make it."""
        return False

    def _recall(self, described: Mapping[str, Any]) -> None:
        """Take back what `_describe` gave."""

    @classmethod
    def _rebuild(cls, artefact: storage.Artefact) -> nn.Module:  # noqa: ARG003
        """The model of a file that holds it.

        Raises:
            ArtefactError: The file holds none.
        """
        raise ArtefactError(f"a {cls.__name__} file does not hold its model; give the model that it was fitted on")

    def _profile(self, statistics: Floats) -> Floats:
        """Values (B, P) that explain the score; the score itself (P = 1) unless a method knows better."""
        return self._score(statistics)[:, None]

    def _profile_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names (P) of the columns of the profile, from those of the measurement."""
        return (f"{type(self).__name__} score of {', '.join(names)}",)

    def _opinions(self, statistics: Floats) -> Opinions | None:
        """What each member thinks, for a method that asks several."""
        return None

    def _compared(self, samples: Samples) -> Floats:
        """Those of the statistics of known images with which later inputs are compared."""
        return samples.statistics

    # What every detector does

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of the images that it takes; None before it knows, and for other inputs."""
        shapes = [tuple(shape) for shape in (self._expected() or {}).values()]
        return shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None

    def __repr__(self) -> str:
        arguments = ", ".join([type(self.model).__name__, *written(type(self), self._parameters())])
        if self._known is not None and self._known.fitted:
            state = f"fitted on {self._known.images} images, "
        else:
            state = "not fitted, " if self.requires_fit else ""
        rate = "not calibrated" if self.calibration is None else f"calibrated at {self.calibration.false_alarm_rate}"
        return f"<{type(self).__name__}({arguments}): {state}{rate}>"

    def fit(self, known: Any, *others: Any, challenges: Any = None) -> Self:
        """Learn what known images look like.

        Args:
            known: Images of the kind that the model was trained for: the training images, or others if it is much
                surer of these. A tensor (B, ...), a tuple (images, labels), tensors by name (a dict, or what a
                tokenizer gives; `labels` or `label` among them are no input), `data.Images`, or an iterable of batches
                such as a DataLoader. Rows with a negative label are left out, as pytorch-ood does.
            others: Refused: labels go with their images.
            challenges: Images that the model was not trained for, in the same forms, for detectors that learn from
                them.

        Returns:
            Itself.

        Raises:
            InputError: Unusable images or labels, or too few of them.
            ModelError: The model is in train mode, has broken weights, or returns no logits.
        """
        if others:
            raise InputError(
                "fit takes known images with their labels as one tuple, fit((images, labels)), and challenges by name, "
                f"got {1 + len(others)} arguments"
            )
        if challenges is not None and not self.learns_from_challenges:
            raise InputError(f"{type(self).__name__} learns nothing from challenges; fit it on known images alone")
        before = dict(self.__dict__)
        try:
            self._fit(known, challenges)
        except BaseException:
            self.__dict__ = before  # what was learnt is replaced by a fit, never changed
            raise
        return self

    def _fit(self, known: Any, challenges: Any) -> None:
        """What fit does; a method that needs more than one look at the known images has more to do before."""
        check_model(self.model)
        self._known = self.calibration = None
        samples = self._collect(known, "known images", None)
        # A challenge may carry any label, also the negative ones that mark unknown images elsewhere.
        others = None if challenges is None else self._collect(challenges, "challenges", samples.inputs, known=False)
        self._learn(samples, others)
        self._remember(samples, fitted=True)

    def calibrate(self, held_out: Any, false_alarm_rate: float = 0.05) -> Self:
        """Choose the threshold so that the given share of known images is flagged (split-conformal).

        Args:
            held_out: Known images that the detector was not fitted on, in the same forms as for fit.
            false_alarm_rate: Share of known images that may be flagged, between 0 and 1.

        Returns:
            Itself; `calibration` holds the scores, the threshold and the rate for each predicted class.

        Raises:
            InputError: Fewer than 1 / rate - 1 images, or images that the detector was fitted on (more than 1 in 100;
                a smaller share, as doubles in real collections, is a UserWarning).
            ModelError: The model is in train mode, or its weights changed since fit.
            NotFittedError: Before fit.
        """
        self._need_fit("calibrate")
        if len(getattr(false_alarm_rate, "shape", ())):
            raise InputError(
                "calibrate takes held-out images with their labels as one tuple, calibrate((images, labels)), and then "
                "the rate, got an array in its place"
            )
        images_needed(false_alarm_rate)  # refuses what is no rate, before anything is read
        check_model(self.model)
        samples = self._collect(held_out, "calibration images", self._expected())
        if self._known is not None:
            check_unseen(samples.fingerprints, self._known.fingerprints)
        scores = self._finite_scores(samples.statistics)
        self.calibration = Calibration(scores, false_alarm_rate, samples.predictions)
        if self._known is None:
            # Detectors without a fit compare with these images when they explain; nothing was learnt from them.
            self._remember(samples, fitted=False)
        return self

    def fitted_on(self, x: Any) -> npt.NDArray[np.bool_]:
        """Whether inputs are among those that the detector was fitted on, value by value.

        Args:
            x: As for predict.

        Returns:
            (B,) bool; all False for a detector without a fit.

        Raises:
            InputError: NaN or infinite values, or no row.
        """
        digests = [fingerprints(batch.inputs) for batch in batches(x, self.batch_size, "inputs")]
        fitted = np.empty(0, np.uint64) if self._known is None else self._known.fingerprints
        return np.isin(np.concatenate(digests), fitted)

    def predict(self, x: Any) -> Tensor:
        """Score inputs.

        Args:
            x: A tensor (B, ...), or any other form that fit takes.

        Returns:
            Outlier scores (B,) float64, on the device of `x`; higher = less trustworthy.

        Raises:
            InputError: NaN or infinite values, no row, or another image size than at fit.
            ModelError: The model is in train mode or returns no finite logits.
            NotFittedError: Before fit.
        """
        self._need_fit("predict")
        scores = [self._finite_scores(m.statistics) for _, m in self._measurements(x, "inputs", self._expected())]
        return torch.from_numpy(np.concatenate(scores)).to(x.device if isinstance(x, Tensor) else "cpu")

    def judge(self, x: Any) -> Verdict:
        """Say for each input what the model predicts and whether to trust it, from the same pass as the score.

        Args:
            x: As for predict.

        Returns:
            The verdict for all rows.

        Raises:
            InputError: As for predict.
            ModelError: As for predict.
            NotFittedError: Before calibrate.
        """
        self._need_fit("judge")
        if self.calibration is None or self._known is None:
            raise NotFittedError("judge needs a false-alarm rate; call calibrate(held_out, false_alarm_rate) first")
        parts = [m for _, m in self._measurements(x, "inputs", self._known.inputs)]
        logits = [m.outputs for m in parts if m.outputs is not None]
        said = torch.cat([part.cpu().double().softmax(1) for part in logits]).max(1) if logits else None
        scores = np.concatenate([self._finite_scores(m.statistics) for m in parts])
        reasons = self._reasons(parts, self._known)
        return Verdict(
            predictions=None if said is None else said.indices.numpy(),
            confidences=None if said is None else said.values.numpy(),
            scores=scores,
            p_values=self.calibration.p_values(scores),
            trustworthy=~self.calibration.flagged(scores),
            false_alarm_rate=self.calibration.false_alarm_rate,
            profile=reasons.z,
            names=reasons.names,
            opinions=reasons.opinions,
        )

    def explain(self, x: Any) -> Profile:
        """Say for each input which readings are out of line with those of the known images.

        Args:
            x: As for predict.

        Returns:
            Robust z-scores (B, P) with names, and the p-values of the members where there are any; `words(row)` says it
            in a sentence.

        Raises:
            InputError: As for predict.
            ModelError: As for predict.
            NotFittedError: Before fit (for detectors without one: before calibrate).
        """
        self._need_fit("explain")
        if self._known is None:
            raise NotFittedError("explain compares with known images; call fit or calibrate first")
        return self._reasons([m for _, m in self._measurements(x, "inputs", self._known.inputs)], self._known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything but the model to one file, which replaces an older one only when it is complete.

        (A few methods keep their model in the file as well, and say so.)

        Args:
            path: The file, by custom with the ending .safetensors.

        Raises:
            ArtefactError: The file cannot be written.
            ModelError: The model's weights changed since fit.
            NotFittedError: There is nothing to save yet.
        """
        storage.write(path, *self.contents())

    def contents(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What `save` writes: the header, and the arrays by name.

        Raises:
            ModelError: The model's weights changed since fit.
            NotFittedError: There is nothing to save yet.
        """
        self._need_fit("save")
        self._check_same()
        return saving.contents(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module | None = None, **given: Any) -> Self:
        """Read a detector back; it gives the same scores to the last bit.

        Args:
            path: A file that save wrote.
            model: The model that the detector was fitted on; may be left out when the file holds it.
            given: Constructor arguments that a file cannot hold (functions, objectives of your own), by name.

        Returns:
            The detector.

        Raises:
            ArtefactError: The file is unusable, of another class, or of another model.
        """
        return cls.restored(storage.read(path), path, model, **given)

    @classmethod
    def restored(
        cls, artefact: storage.Artefact, path: str | os.PathLike[str], model: nn.Module | None = None, **given: Any
    ) -> Self:
        """The detector of what `contents` gave, as `load` makes it.

        Args:
            artefact: Header and arrays.
            path: Where they are from, for messages.
            model: As for load.
            given: As for load.

        Returns:
            The detector.

        Raises:
            ArtefactError: As for load.
        """
        return saving.restored(cls, artefact, path, model, given)

    # How it does so

    def _need_fit(self, step: str) -> None:
        if self.requires_fit and self._known is None:
            raise NotFittedError(f"{type(self).__name__} cannot {step} yet; call fit(known) first")

    def _reasons(self, parts: Sequence[Measurement], known: Known) -> Profile:
        z = np.concatenate([known.reference.z(self._profile(m.statistics)) for m in parts])
        found = [opinions for m in parts if (opinions := self._opinions(m.statistics)) is not None]
        return Profile(z, self._profile_names(known.names), Opinions.joined(found) if found else None)

    def _check_same(self) -> None:
        """Refuse a model that is no longer, or not yet known to be, the one of the fit."""
        if self._known is None or (self._seen is not None and self._seen.still(self.model)):
            return
        if weights_hash(self.model) != self._known.weights:
            check_model(self.model)  # says more where weights are broken
            raise ModelError(
                "the weights of the model, or buffers that are saved with them, changed since the detector was fitted; "
                "fit it again"
            )
        self._trust(self._known)

    def _trust(self, known: Known) -> None:
        """Take a model with the weights of the fit for the one of the fit, after its outputs were looked at once."""
        if self._seen is None and known.witness is not None:
            check_witness(self.model, known.inputs, known.witness, self._where())
        self._seen = Seen.of(self.model)

    def _where(self) -> Output:
        """Where the logits are in what the model returns, of a method that can be told."""
        return getattr(self, "output", None)

    def _collect(self, source: Any, role: str, expected: dict[str, list[int]] | None, *, known: bool = True) -> Samples:
        return collect(self._measurements(source, role, expected, known=known), role)

    def _remember(self, samples: Samples, *, fitted: bool) -> None:
        profile, weights = self._profile(self._compared(samples)), weights_hash(self.model)
        witness = witness_of(self.model, samples.inputs, self._where()) if samples.classes else None
        self._known = Known.of(samples, profile, weights, witness, fitted=fitted)
        self._seen = Seen.of(self.model)

    def _expected(self) -> dict[str, list[int]] | None:
        return None if self._known is None else self._known.inputs

    def _measurements(
        self, source: Any, role: str, expected: dict[str, list[int]] | None, *, known: bool = False
    ) -> Iterator[tuple[Batch, Measurement]]:
        """Read the model for a source in batches of one size, each checked before and after."""
        check_model(self.model, weights=False)
        with exclusive(self.model):  # others may be reading copies in another type meanwhile
            self._check_same()
            device, dtype = place_of(self.model)
        for full in batches(source, self.batch_size, role):
            batch = full.select(full.labels >= 0) if known and full.labels is not None else full
            if not len(batch):
                continue
            expected = signature(batch.inputs) if expected is None else expected
            check_signature(batch.inputs, expected, role)
            inputs = move(batch.inputs, device, dtype)
            # Hooks see nothing of compiled code; what a forward pass writes into a buffer is not ours to leave there.
            with exclusive(self.model), uncompiled(self.model), buffers_as_found(self.model):
                measurement = self._measure(inputs)
            if measurement.outputs is not None:
                check_outputs(measurement.outputs, inputs, self.model)
            self._check_statistics(measurement, role)
            yield batch, measurement

    def _check_statistics(self, measurement: Measurement, role: str) -> None:
        statistics = measurement.statistics
        if self._known is not None:
            self._known.check(measurement)
        if not np.isfinite(statistics).all():
            columns = np.flatnonzero(~np.isfinite(statistics).all(0))
            raise ModelError(
                f"{len(columns)} reading(s) of the {role} are NaN or infinite, though inputs and logits are finite; "
                "the model overflows, run it in a wider floating point type"
            )

    def _finite_scores(self, statistics: Floats) -> Floats:
        scores = self._score(statistics)
        if not np.isfinite(scores).all():
            raise ModelError(f"{np.count_nonzero(~np.isfinite(scores))} score(s) are NaN or infinite")
        return scores
