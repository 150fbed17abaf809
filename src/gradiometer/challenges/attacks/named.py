"""Attacks by name, with settings that can be written down."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from torch import Tensor, nn

from gradiometer.challenges.attacks.gradient import bim, carlini_wagner, fgsm, least_likely, pgd
from gradiometer.challenges.attacks.semantic import colour_shift, negative
from gradiometer.errors import InputError

ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": fgsm,
    "bim": bim,
    "pgd": pgd,
    "carlini_wagner": carlini_wagner,
    "least_likely": least_likely,
    "negative": negative,
    "colour_shift": colour_shift,
}
"""Name -> function of model, images, labels and settings. One more attack is one more entry."""

PURVIEW_SIX: dict[str, tuple[str, ...]] = {
    "FGSM": ("fgsm",),
    "BIM": ("bim",),
    "C&W": ("carlini_wagner",),
    "PGD": ("pgd",),
    "IterLL": ("least_likely",),
    "Semantic": ("negative", "colour_shift"),
}
"""The rows of the published table of Purview -> names in `ATTACKS`.

Two attacks go by the name "semantic"; the first is the more likely reading. The strengths behind the published table
are not known.
"""


_COLOUR = frozenset({"colour_shift"})


@dataclass(frozen=True)
class NamedAttack:
    """One attack with all of its settings: a callable from model, images and labels to images.

    Attributes:
        name: Key in `ATTACKS`.
        settings: Every setting by name.
    """

    name: str
    settings: Mapping[str, float]

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, /) -> Tensor:
        """Attack a batch; see the function of that name."""
        return ATTACKS[self.name](model, images, labels, **self.settings)

    @property
    def bound(self) -> float | None:
        """The largest change of a pixel that it may make, or None when it has no such bound."""
        return self.settings.get("epsilon")

    @property
    def colour(self) -> bool:
        """Whether it changes colours and nothing else, and so needs three channels."""
        return self.name in _COLOUR

    @property
    def description(self) -> str:
        """Name and settings in one line of JSON, the same for the same attack."""
        return json.dumps({"attack": self.name, **self.settings}, sort_keys=True)


def seeded(name: str) -> bool:
    """Whether an attack draws at random by a seed of its own."""
    return name in ATTACKS and "seed" in inspect.signature(ATTACKS[name]).parameters


def attack(name: str, **settings: float) -> NamedAttack:
    """An attack by name.

    Args:
        name: Key in `ATTACKS`.
        **settings: What is to differ from the defaults of that function.

    Raises:
        InputError: If there is no such attack or setting, or a setting is no number.

    Example:
        >>> attack("bim", steps=20).description
        '{"attack": "bim", "epsilon": 0.03137254901960784, "step": 0.00392156862745098, "steps": 20}'
    """
    if name not in ATTACKS:
        close = difflib.get_close_matches(name, ATTACKS, n=1)
        guess = f"did you mean {close[0]}? There" if close else "there"
        raise InputError(f"unknown attack {name!r}; {guess} are {', '.join(ATTACKS)}")
    parameters = list(inspect.signature(ATTACKS[name]).parameters.values())[3:]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    unknown = [key for key in settings if key not in defaults]
    if unknown:
        there = ", ".join(defaults) or "none"
        raise InputError(f"the attack {name} has no setting {unknown[0]!r}; its settings: {there}")
    for key, value in settings.items():
        kind, what = (Integral, "a whole number") if isinstance(defaults[key], int) else (Real, "a number")
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InputError(f"{key} of the attack {name} is {value!r}; give {what}, such as {defaults[key]:.4g}")
    return NamedAttack(name, defaults | settings)
