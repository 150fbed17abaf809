"""The instrument: per-sample, per-parameter gradient statistics of any `torch.nn.Module`."""

from gradiometer.gradients.class_grams import ClassGrams
from gradiometer.gradients.meter import Gradiometer
from gradiometer.gradients.objectives import (
    ConfoundingLabel,
    ContrastClasses,
    Loss,
    Objective,
    PseudoLabel,
    RandomContrasts,
    Reconstruction,
    UniformTarget,
)
from gradiometer.gradients.plan import Line, Plan
from gradiometer.gradients.readings import Readings
from gradiometer.gradients.rules import Call, LayerRule, layer_rule
from gradiometer.gradients.selection import OneLogit

__all__ = [
    "Call",
    "ClassGrams",
    "ConfoundingLabel",
    "ContrastClasses",
    "Gradiometer",
    "LayerRule",
    "Line",
    "Loss",
    "Objective",
    "OneLogit",
    "Plan",
    "PseudoLabel",
    "RandomContrasts",
    "Readings",
    "Reconstruction",
    "UniformTarget",
    "layer_rule",
]
