"""Detectors: they turn inputs into outlier scores with a false-alarm rate that the user chooses."""

from __future__ import annotations

from gradiometer.detectors.adapter import FromPytorchOod
from gradiometer.detectors.base import Detector
from gradiometer.detectors.baselines import MSP, Energy, NormalizedMahalanobis
from gradiometer.detectors.calibration import Calibration, FalseAlarms, false_alarms, images_needed
from gradiometer.detectors.control import Control
from gradiometer.detectors.ddu import DDU
from gradiometer.detectors.decision import DecisionNetwork
from gradiometer.detectors.density import NeighbourDensity
from gradiometer.detectors.dialling import Dial, Setting, dial
from gradiometer.detectors.dropout import MCDropout
from gradiometer.detectors.ensemble import DeepEnsemble
from gradiometer.detectors.exgrad import ExGrad
from gradiometer.detectors.fusion import Fusion
from gradiometer.detectors.gaia import GAIA
from gradiometer.detectors.gradnorm import GradNorm
from gradiometer.detectors.gradpca import GradPCA
from gradiometer.detectors.gradtrust import GradTrust
from gradiometer.detectors.graduncertainty import GradUncertainty
from gradiometer.detectors.guard import Guard
from gradiometer.detectors.knn import KNN
from gradiometer.detectors.lid import LID
from gradiometer.detectors.mahalanobis import Mahalanobis
from gradiometer.detectors.odin import ODIN
from gradiometer.detectors.opinions import Opinions
from gradiometer.detectors.profile import Profile
from gradiometer.detectors.purview import Purview
from gradiometer.detectors.react import ReAct
from gradiometer.detectors.registry import load, register, registered
from gradiometer.detectors.samples import Measurement, Samples
from gradiometer.detectors.squeezing import FeatureSqueezing
from gradiometer.detectors.uncertainty import Uncertainty
from gradiometer.detectors.verdict import Verdict
from gradiometer.detectors.vim import ViM

__all__ = [
    "DDU",
    "GAIA",
    "KNN",
    "LID",
    "MSP",
    "ODIN",
    "Calibration",
    "Control",
    "DecisionNetwork",
    "DeepEnsemble",
    "Detector",
    "Dial",
    "Energy",
    "ExGrad",
    "FalseAlarms",
    "FeatureSqueezing",
    "FromPytorchOod",
    "Fusion",
    "GradNorm",
    "GradPCA",
    "GradTrust",
    "GradUncertainty",
    "Guard",
    "MCDropout",
    "Mahalanobis",
    "Measurement",
    "NeighbourDensity",
    "NormalizedMahalanobis",
    "Opinions",
    "Profile",
    "Purview",
    "ReAct",
    "Samples",
    "Setting",
    "Uncertainty",
    "Verdict",
    "ViM",
    "dial",
    "false_alarms",
    "images_needed",
    "load",
    "register",
    "registered",
]
