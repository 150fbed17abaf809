"""What one corruption is: a function, its constants at five levels, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gradiometer.challenges.corruptions.draws import Draws

Constants = tuple[float, ...]
"""The constants of one level."""

Change = Callable[[Tensor, Constants, Draws], Tensor]
"""Images (B, K, H, W) in [0, 1], the constants of the level, the draws of each image -> changed images, not clipped."""

CIFAR_10_C = "CIFAR-10-C"
"""Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019, with the constants of the released code for CIFAR-10."""

CURE_TSR = "CURE-TSR"
"""Temel, Kwon, Prabhushankar and AlRegib, "CURE-TSR: Challenging Unreal and Real Environments for Traffic Sign
Recognition", 2017. Those were made with a video editor on whole frames; here they are imitated on the crops."""


@dataclass(frozen=True)
class Recipe:
    """How one corruption works.

    Attributes:
        name: Its key in `CORRUPTIONS`.
        title: Its name in tables and figures.
        family: What it imitates.
        source: The collection it belongs to, `CIFAR-10-C` or `CURE-TSR`.
        levels: Its constants at the levels 1 to 5.
        change: What it does to a batch.
        colour: Whether it needs three channels: on grey images it would do nothing.
        uneven: Why the images do not move away from the originals with every level, or empty when they do.
    """

    name: str
    title: str
    family: Literal["noise", "blur", "weather", "colour", "digital", "lens"]
    source: str
    levels: tuple[Constants, Constants, Constants, Constants, Constants]
    change: Change
    colour: bool = False
    uneven: str = ""


def single(
    one: float, two: float, three: float, four: float, five: float
) -> tuple[Constants, Constants, Constants, Constants, Constants]:
    """The levels of a corruption that has one constant."""
    return (one,), (two,), (three,), (four,), (five,)
