"""The settings of a training, with those that were published as defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from gradiometer import given
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
        if self.network not in get_args(Kind):
            raise InputError(f"network is {self.network!r}; give one of {', '.join(get_args(Kind))}")
        given.whole("epochs", self.epochs)
        given.whole("patience", self.patience, 0)
        given.whole("batch_size", self.batch_size)
        given.number("learning_rate", self.learning_rate, "a number above 0", above=0)
        given.number("latent_weight", self.latent_weight, "a number of 0 or more", least=0)
        given.whole("seed", self.seed, 0)

    def fixed(self) -> dict[str, Any]:
        """The settings that a training that continues has to share, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in ("epochs", "patience")}
