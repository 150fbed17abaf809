"""Corruptions by name, each with levels from 1 to 5: those of CIFAR-10-C and those of CURE-TSR."""

from __future__ import annotations

from gradiometer.challenges.corruptions.corruption import (
    CORRUPTIONS,
    PURVIEW_EIGHT,
    Corruption,
    check_unit,
    corrupt,
    corruption,
    gaussian_blur,
    gaussian_noise,
)
from gradiometer.challenges.corruptions.recipe import Recipe

__all__ = [
    "CORRUPTIONS",
    "PURVIEW_EIGHT",
    "Corruption",
    "Recipe",
    "check_unit",
    "corrupt",
    "corruption",
    "gaussian_blur",
    "gaussian_noise",
]
