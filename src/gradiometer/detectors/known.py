"""What a detector remembers of the known images besides what its method learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gradiometer.detectors.fingerprints import Fingerprints
from gradiometer.detectors.profile import Reference
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.detectors.storage import Artefact
from gradiometer.errors import ModelError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """What later inputs, models and calibration images are compared with.

    Attributes:
        inputs: Shape of one sample of each floating point tensor of the input.
        names: What was read off the model.
        columns: Number of statistics F.
        images: Number of known images.
        weights: SHA-256 of the weights of the model.
        fingerprints: Digests of the images of the fit, each once; none for a detector without a fit.
        reference: Where known images lie in each column of the profile.
        witness: Logits (2, C) of the model for made-up inputs, or None where it has none that are always the same.
    """

    inputs: dict[str, list[int]]
    names: tuple[str, ...]
    columns: int
    images: int
    weights: str
    fingerprints: Fingerprints
    reference: Reference
    witness: Floats | None = None

    @classmethod
    def of(
        cls, samples: Samples, profile: Floats, weights: str, witness: Floats | None = None, *, fitted: bool
    ) -> Self:
        """What is kept of known images.

        Args:
            samples: What was read off the model for them.
            profile: Values (N, P) that explain their scores.
            weights: SHA-256 of the weights of the model.
            witness: Logits of the model for made-up inputs.
            fitted: Whether the detector learnt from them, so that it must not be calibrated on them.
        """
        return cls(
            inputs=samples.inputs,
            names=samples.names,
            columns=samples.statistics.shape[1],
            images=len(samples),
            weights=weights,
            fingerprints=np.unique(samples.fingerprints) if fitted else samples.fingerprints[:0],
            reference=Reference.fit(profile),
            witness=witness,
        )

    @property
    def fitted(self) -> bool:
        """Whether the detector learnt from these images, rather than only being calibrated on them."""
        return len(self.fingerprints) > 0

    def check(self, measurement: Measurement) -> None:
        """Refuse readings of another kind than those of the fit.

        Raises:
            ModelError: Other names or another number.
        """
        columns = measurement.statistics.shape[1]
        if columns != self.columns or measurement.names != self.names:
            other = sorted({*measurement.names} ^ {*self.names})
            raise ModelError(
                f"the model gives {columns} readings where the detector was fitted on {self.columns} "
                f"({', '.join(map(repr, other[:3])) or 'in another order'} differ); use the model of the fit"
            )

    def header(self) -> dict[str, Any]:
        """Everything that is not an array, as JSON values."""
        names = ("inputs", "names", "columns", "images", "weights")
        return {name: getattr(self, name) for name in names}

    def arrays(self) -> dict[str, Array]:
        """Everything that is an array, by name."""
        reference = self.reference
        arrays: dict[str, Array] = {
            "fingerprints": self.fingerprints,
            "median": reference.median,
            "deviation": reference.deviation,
        }
        return arrays if self.witness is None else arrays | {"witness": self.witness}

    @classmethod
    def restore(cls, artefact: Artefact) -> Self:
        """Build it from a file."""
        return cls(
            inputs=artefact.get("inputs"),
            names=tuple(artefact.get("names")),
            columns=artefact.get("columns"),
            images=artefact.get("images"),
            weights=artefact.get("weights"),
            fingerprints=artefact.array("fingerprints").astype(np.uint64),
            reference=Reference(artefact.floats("median"), artefact.floats("deviation")),
            witness=artefact.floats("witness") if "witness" in artefact.tensors else None,
        )
