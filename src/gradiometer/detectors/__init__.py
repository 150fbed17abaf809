"""Detectors: they turn inputs into outlier scores with a false-alarm rate that the user chooses."""

from __future__ import annotations

from gradiometer.detectors.base import Detector
from gradiometer.detectors.baselines import MSP, Energy, NormalizedMahalanobis
from gradiometer.detectors.calibration import Calibration, FalseAlarms, false_alarms, images_needed
from gradiometer.detectors.control import Control
from gradiometer.detectors.decision import DecisionNetwork
from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.fusion import Fusion
from gradiometer.detectors.guard import Guard
from gradiometer.detectors.opinions import Opinions
from gradiometer.detectors.profile import Profile
from gradiometer.detectors.purview import Purview
from gradiometer.detectors.registry import load, register, registered
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.detectors.verdict import Verdict

__all__ = [
    "MSP",
    "Calibration",
    "Control",
    "DecisionNetwork",
    "Detector",
    "Energy",
    "FalseAlarms",
    "Fusion",
    "Guard",
    "Measurement",
    "NeighbourDensity",
    "NormalizedMahalanobis",
    "Opinions",
    "Profile",
    "Purview",
    "Samples",
    "Verdict",
    "false_alarms",
    "images_needed",
    "load",
    "register",
    "registered",
]
