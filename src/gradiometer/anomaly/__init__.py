"""GradCon: auto-encoders of normal images, trained so that the gradients of normal images agree."""

from __future__ import annotations

from gradiometer.anomaly.constraint import Constraint
from gradiometer.anomaly.curves import Curves
from gradiometer.anomaly.detector import GradCon
from gradiometer.anomaly.directions import main_directions, mean_gradient
from gradiometer.anomaly.export import ARTEFACT, train_gradcon
from gradiometer.anomaly.maps import Maps, Scale, Spots, maps_of
from gradiometer.anomaly.networks import AutoEncoder, VariationalAutoEncoder, make_network
from gradiometer.anomaly.recipe import AnomalyRecipe
from gradiometer.anomaly.training import Trained, train
from gradiometer.data.hashing import pixels_hash

__all__ = [
    "ARTEFACT",
    "AnomalyRecipe",
    "AutoEncoder",
    "Constraint",
    "Curves",
    "GradCon",
    "Maps",
    "Scale",
    "Spots",
    "Trained",
    "VariationalAutoEncoder",
    "main_directions",
    "make_network",
    "maps_of",
    "mean_gradient",
    "pixels_hash",
    "train",
    "train_gradcon",
]
