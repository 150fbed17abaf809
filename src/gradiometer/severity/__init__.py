"""Severity: how far a scan is from healthy ones, and labels made of it."""

from __future__ import annotations

from gradiometer.severity.model import SeverityModel
from gradiometer.severity.preparation import Preparation
from gradiometer.severity.training import ARTEFACT, train_severity

__all__ = ["ARTEFACT", "Preparation", "SeverityModel", "train_severity"]
