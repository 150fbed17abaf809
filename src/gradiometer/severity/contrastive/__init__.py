"""Encoders that learn from weak labels: contrastive pre-training, and linear probes of what was learnt."""

from __future__ import annotations

from gradiometer.severity.contrastive.encoders import ENCODERS, Encoder, EncoderSettings, make_encoder
from gradiometer.severity.contrastive.export import ARTEFACT, load_encoder, pretrain_to_file, settings_for
from gradiometer.severity.contrastive.loss import UNLABELLED, contrastive_loss
from gradiometer.severity.contrastive.pretraining import ContrastiveRecipe, Pretrained, pretrain
from gradiometer.severity.contrastive.probe import ProbeResult, Reading, features_of, probe
from gradiometer.severity.contrastive.views import Augmentation, Views

__all__ = [
    "ARTEFACT",
    "ENCODERS",
    "UNLABELLED",
    "Augmentation",
    "ContrastiveRecipe",
    "Encoder",
    "EncoderSettings",
    "Pretrained",
    "ProbeResult",
    "Reading",
    "Views",
    "contrastive_loss",
    "features_of",
    "load_encoder",
    "make_encoder",
    "pretrain",
    "pretrain_to_file",
    "probe",
    "settings_for",
]
