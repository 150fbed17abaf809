"""Encoders of the severity benchmark: pre-trained once, and taken from the cache after that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from gradiometer.data import Cohort
from gradiometer.data.hashing import pixels_hash
from gradiometer.severity.contrastive import ContrastiveRecipe, Encoder, EncoderSettings, make_encoder, pretrain


def encoder_of(
    train: Cohort,
    columns: Sequence[str] | None,
    architecture: EncoderSettings,
    recipe: ContrastiveRecipe,
    networks: Path,
) -> Encoder:
    """The encoder of a method, pre-trained or taken from the cache.

    Args:
        train: Images to learn from, with the columns of the labels.
        columns: Columns of the loss, each a loss of its own; None for random weights.
        architecture: What the encoder is.
        recipe: How it is pre-trained; its seed is that of the weights too.
        networks: Folder of the trained networks.
    """
    if columns is None:
        return make_encoder(architecture, recipe.seed).eval()
    labels = {column: train.labels(column) for column in columns}
    parts = [asdict(recipe), asdict(architecture), {key: column.tolist() for key, column in labels.items()}]
    key = sha256(json.dumps([*parts, pixels_hash(train.images.images)], sort_keys=True).encode()).hexdigest()[:16]
    return pretrain(train.images.images, labels, architecture, recipe, networks / "contrastive" / key).encoder
