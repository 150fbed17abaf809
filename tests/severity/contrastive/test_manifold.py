"""A manifold of healthy scans, and scans whose distance from it is known: the whole pipeline finds it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV

from gradiometer.anomaly import AnomalyRecipe
from gradiometer.data import Cohort
from gradiometer.severity import Preparation, SeverityTable, train_severity
from gradiometer.severity.contrastive import (
    Augmentation,
    ContrastiveRecipe,
    features_of,
    pretrain_to_file,
    settings_for,
)
from tests.severity.manifold import scans


def test_severity_is_recovered_by_the_score_and_from_the_encoder_that_learnt_its_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known, unseen = rng.uniform(0, 1, (2, 128))
    train, test = scans(128, known, 7), scans(128, unseen, 8)
    healthy = scans(240, 0.0, 0)
    model = train_severity(
        healthy,
        tmp_path / "model",
        Preparation(channels=1),
        AnomalyRecipe(epochs=12, batch_size=32),
        settings={"score": "gradient"},
    )
    scores = model.score(train)
    assert spearmanr(scores, known).statistic > 0.9
    assert spearmanr(model.score(test), unseen).statistic > 0.9

    table = SeverityTable(train.names, scores, model.percentile(scores)).labelled(8)
    assert table.labels is not None
    cohort = Cohort(train, {"label": table.labels.astype(np.float64)})
    recipe = ContrastiveRecipe(
        epochs=15,
        batch_size=32,
        learning_rate=0.05,
        schedule="cosine",
        temperature=0.2,
        augmentation=Augmentation(smallest_crop=0.8, jitter=0.0, grey_share=0.0),
    )
    encoder = pretrain_to_file(
        cohort, ["label"], tmp_path / "encoder", settings_for(train.images, "resnet8"), recipe
    ).encoder
    # The read-out is fitted to the labels; the known severities of the other scans are only compared with.
    head = RidgeCV(np.logspace(-2, 3, 11)).fit(features_of(encoder, train.images), table.labels)
    assert spearmanr(head.predict(features_of(encoder, test.images)), unseen).statistic > 0.9
