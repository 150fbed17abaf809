"""Attacks by name or of any other library, the noise that stands beside them, and a store of what was attacked."""

from __future__ import annotations

from gradiometer.challenges.attacks.applying import Attack, apply_attack, attack_images, predict
from gradiometer.challenges.attacks.control import (
    LEE_DEVIATIONS,
    AttackedSet,
    attacked_set,
    lee_deviation,
    matched_deviation,
    noise_control,
)
from gradiometer.challenges.attacks.gradient import bim, carlini_wagner, fgsm, least_likely, pgd
from gradiometer.challenges.attacks.named import ATTACKS, PURVIEW_SIX, NamedAttack, attack
from gradiometer.challenges.attacks.semantic import colour_shift, negative

__all__ = [
    "ATTACKS",
    "LEE_DEVIATIONS",
    "PURVIEW_SIX",
    "Attack",
    "AttackedSet",
    "NamedAttack",
    "apply_attack",
    "attack",
    "attack_images",
    "attacked_set",
    "bim",
    "carlini_wagner",
    "colour_shift",
    "fgsm",
    "least_likely",
    "lee_deviation",
    "matched_deviation",
    "negative",
    "noise_control",
    "pgd",
    "predict",
]
