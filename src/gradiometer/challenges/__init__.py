"""Challenges: what a network was not trained for. Corruptions with a level, attacks, pictures of other things."""

from __future__ import annotations

from gradiometer.challenges.attacks import Attack, apply_attack, attack_images, fgsm
from gradiometer.challenges.corruptions import CORRUPTIONS, Corruption, corrupt, gaussian_blur, gaussian_noise
from gradiometer.challenges.pictures import letters, photographs, textures

__all__ = [
    "CORRUPTIONS",
    "Attack",
    "Corruption",
    "apply_attack",
    "attack_images",
    "corrupt",
    "fgsm",
    "gaussian_blur",
    "gaussian_noise",
    "letters",
    "photographs",
    "textures",
]
