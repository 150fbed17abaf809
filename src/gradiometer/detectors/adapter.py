"""Detectors of pytorch-ood under the life cycle of this package."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytorch_ood.api
import torch
from torch import Tensor, nn

from gradiometer.detectors.base import Detector
from gradiometer.detectors.checks import forward, place_of
from gradiometer.detectors.inputs import Again, Inputs, move
from gradiometer.detectors.samples import Measurement
from gradiometer.errors import ArtefactError, InputError
from gradiometer.gradients.selection import Output

Floats = npt.NDArray[np.float64]


class FromPytorchOod(Detector):
    """A detector of pytorch-ood, with calibration, verdicts and checks of the input around it.

    It is fitted by its own fit, where known images without labels have the label 0 and challenges -1, and scores by
    its own predict, so what it sees and costs is up to it; higher = less trustworthy is the convention of pytorch-ood
    too. It cannot be saved: its state is known to nobody but itself.

    Args:
        model: Classifier in eval mode that maps inputs to logits (B, C), for predictions and confidences.
        peer: The detector; it has been given the model, or parts of it, already.
        output: Where the logits are in what the model returns: a key, a position or a function.
        batch_size: Samples that go through the model at once.

    Raises:
        InputError: The peer is no detector of pytorch-ood.

    Example:
        >>> import pytorch_ood.detector
        >>> model = nn.Identity().eval()
        >>> detector = FromPytorchOod(model, pytorch_ood.detector.Entropy(model))
        >>> [round(score, 4) for score in detector.predict(torch.tensor([[0.0, 0.0], [9.0, 0.0]])).tolist()]
        [0.6931, 0.0012]
    """

    learns_from_challenges = True

    def __init__(
        self, model: nn.Module, peer: pytorch_ood.api.Detector, output: Output = None, *, batch_size: int = 128
    ) -> None:
        super().__init__(model, batch_size=batch_size)
        if not isinstance(peer, pytorch_ood.api.Detector):
            raise InputError(f"the peer is a {type(peer).__name__}; give a detector of pytorch-ood")
        if isinstance(peer, Detector):
            raise InputError(f"{type(peer).__name__} has this life cycle already; use it as it is")
        self.peer = peer
        self.output = output
        self.requires_fit = bool(peer.requires_fit)

    def fit(self, known: Any, *others: Any, challenges: Any = None) -> Self:
        """As for every detector; but a fit that fails leaves none, as the peer may have changed by then."""
        try:
            return super().fit(known, *others, challenges=challenges)
        except BaseException:
            self._known = self.calibration = None
            raise

    def _fit(self, known: Any, challenges: Any) -> None:
        """Fit the peer: known images without labels have the label 0, challenges -1."""
        again = Again(known, self.batch_size)
        others = None if challenges is None else Again(challenges, self.batch_size, "challenges")
        if self.requires_fit:
            self.peer.fit(self._pairs(again, others))
        super()._fit(again, others)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Refuse: a detector of pytorch-ood has no file format.

        Raises:
            ArtefactError: Always.
        """
        raise ArtefactError(f"a {type(self.peer).__name__} of pytorch-ood cannot be saved to {path}; fit it again")

    def _pairs(self, known: Again, challenges: Again | None) -> list[tuple[Inputs, Tensor]]:
        """Batches (inputs, labels) as a loader gives them; challenges have negative labels."""
        device, dtype = place_of(self.model)
        pairs = []
        for source, label in ((known, 0), (challenges, -1)):
            for batch in source or ():
                labels = np.full(len(batch), label) if batch.labels is None or label < 0 else batch.labels
                pairs.append((move(batch.inputs, device, dtype), torch.from_numpy(labels.astype(np.int64))))
        return pairs

    def _measure(self, inputs: Inputs) -> Measurement:
        outputs = forward(self.model, inputs, self.output)
        with torch.inference_mode(False), torch.enable_grad():
            scores = self.peer.predict(inputs.clone() if isinstance(inputs, Tensor) else inputs)
        name = f"{type(self.peer).__name__} of pytorch-ood"
        return Measurement(outputs, scores.detach().cpu().double().reshape(-1, 1).numpy(), (name,))

    def _score(self, statistics: Floats) -> Floats:
        scores: Floats = statistics[:, 0]
        return scores
