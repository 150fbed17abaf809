"""The settings of a training, with those that were published as defaults."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from gradiometer.anomaly.constraint import Constraint
from gradiometer.anomaly.networks import Kind
from gradiometer.errors import InputError


@dataclass(frozen=True)
class AnomalyRecipe:
    """How an auto-encoder is trained. The defaults are published, except for the epochs, of which there were 1000.

    Attributes:
        network: `cae` or `vae`.
        constraint: The gradient constraint.
        epochs: Passes over the training images. An interrupted or finished training continues with more of them.
        patience: Epochs without a better criterion on the validation images after which training stops; 0 for never.
        batch_size: Images in a step.
        learning_rate: Of Adam, which has its default momenta, no weight decay and no schedule.
        latent_weight: Weight of the latent loss of the VAE. With 1 the sum of both losses is the evidence bound under
            a normal likelihood, divided by the number of values in an image.
        seed: Of the initial weights, the order of the images and the latent noise.

    Raises:
        InputError: A setting is out of range.
    """

    network: Kind = "cae"
    constraint: Constraint = field(default_factory=Constraint)
    epochs: int = 40
    patience: int = 0
    batch_size: int = 64
    learning_rate: float = 1e-3
    latent_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name, value, right in (
            ("network", self.network, self.network in ("cae", "vae")),
            ("epochs", self.epochs, self.epochs >= 1),
            ("patience", self.patience, self.patience >= 0),
            ("batch_size", self.batch_size, self.batch_size >= 1),
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf),
            ("latent_weight", self.latent_weight, 0 <= self.latent_weight < math.inf),
            ("seed", self.seed, self.seed >= 0),
        ):
            if not right:
                raise InputError(f"cannot train with {name} = {value!r}; see the AnomalyRecipe class for its range")

    def fixed(self) -> dict[str, Any]:
        """The settings that a training that continues has to share, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in ("epochs", "patience")}
