"""A manifold of healthy pictures, and pictures whose distance from it is known: the pipeline has to find it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV

from gradiometer.anomaly import AnomalyRecipe
from gradiometer.data import Cohort, Images
from gradiometer.severity import Preparation, SeverityTable, train_severity
from gradiometer.severity.contrastive import (
    Augmentation,
    ContrastiveRecipe,
    features_of,
    pretrain_to_file,
    settings_for,
)

SIZE = 16


def pictures(severities: np.ndarray, seed: int) -> Images:
    """A layer at some height, which is health; spots in some places, as bright as the severity says."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = []
    for severity in severities:
        picture = 40 + 70 * np.exp(-((rows - rng.uniform(6, 10)) ** 2) / 6)
        for place in rng.choice(16, 12, replace=False):
            y, x = 2 + 4 * (place // 4), 2 + 4 * (place % 4)
            picture += 140 * severity * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 1.5)
        found.append(picture + rng.normal(0, 2, picture.shape))
    return Images.of(np.stack(found).clip(0, 255).astype(np.uint8)[:, None], name=f"set{seed}")


def test_severity_is_recovered_by_the_score_and_from_the_encoder_that_learnt_its_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known, unseen = rng.uniform(0, 1, (2, 128))
    train, test = pictures(known, 1), pictures(unseen, 2)
    healthy = pictures(np.zeros(160), 3)
    model = train_severity(
        healthy,
        tmp_path / "model",
        Preparation(channels=1),
        AnomalyRecipe(epochs=15, batch_size=16),
        settings={"score": "combined"},
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
    # The read-out is fitted to the labels; the known severities of the other pictures are only compared with.
    head = RidgeCV(np.logspace(-2, 3, 11)).fit(features_of(encoder, train.images), table.labels)
    assert spearmanr(head.predict(features_of(encoder, test.images)), unseen).statistic > 0.9
