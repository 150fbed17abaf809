"""Severity: how far a scan is from healthy ones, and labels made of it."""

from __future__ import annotations

from gradiometer.severity.labels import Cuts, severity_labels
from gradiometer.severity.model import SeverityModel
from gradiometer.severity.preparation import Preparation
from gradiometer.severity.table import SeverityTable
from gradiometer.severity.training import ARTEFACT, train_severity

__all__ = [
    "ARTEFACT",
    "Cuts",
    "Preparation",
    "SeverityModel",
    "SeverityTable",
    "severity_labels",
    "train_severity",
]
