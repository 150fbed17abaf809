"""The wrapped baselines against their formulas, worked by hand, and against pytorch-ood's own detectors."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_ood.detector
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score
from torch import nn

from gradiometer.detectors import MSP, Energy, NormalizedMahalanobis
from gradiometer.errors import InputError, ModelError, NotFittedError


def test_msp_and_energy_on_logits_worked_by_hand():
    logits = torch.tensor([[np.log(6.0), np.log(3.0), 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    model = nn.Identity().eval()
    # exp gives 6, 3, 1: the sum is 10 and the largest share 0.6.
    assert MSP(model).predict(logits).tolist() == pytest.approx([-0.6, -1 / 3])
    assert Energy(model).predict(logits).tolist() == pytest.approx([-np.log(10), -np.log(3)])


def test_msp_and_energy_are_those_of_pytorch_ood(model, digits):
    images = digits.test[0]
    with torch.no_grad():
        peers = [pytorch_ood.detector.MaxSoftmax(model)(images), pytorch_ood.detector.EnergyBased(model)(images)]
    for detector, peer in zip([MSP(model), Energy(model)], peers, strict=True):
        scores = detector.predict(images)
        assert scores.dtype == torch.float64
        np.testing.assert_allclose(scores, peer, rtol=1e-5)


def by_hand(features: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    means = [features[labels == k].mean(0) for k in range(labels.max() + 1)]
    centred = np.concatenate([features[labels == k] - means[k] for k in range(labels.max() + 1)])
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    inverse = np.linalg.inv(covariance)
    return np.array([min(0.5 * (q - m) @ inverse @ (q - m) for m in means) for q in queries])


def test_mahalanobis_is_the_formula_on_the_input_of_the_last_linear_layer(model, digits):
    (images, labels), (queries, _) = digits.fit, digits.test
    with torch.no_grad():
        features, others = (model[:10](x).double().numpy() for x in (images, queries))
    detector = NormalizedMahalanobis(model).fit((images, labels))
    np.testing.assert_allclose(detector.predict(queries), by_hand(features, labels.numpy(), others), rtol=1e-6)
    assert detector.explain(queries[:1]).names == ("NormalizedMahalanobis score of features into 10",)
    encoded = NormalizedMahalanobis(model, encoder=model[:10]).fit((images, labels))
    np.testing.assert_allclose(encoded.predict(queries), detector.predict(queries), rtol=1e-9)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_fit_of_pytorch_ood_orders_well_conditioned_features_alike():
    # Its scatter matrix is not divided by N, which only scales the scores; with many samples, little shrinkage and
    # no dead unit, both fits agree.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 4
    features = torch.randn(4000, 8, generator=generator) + 3 * torch.randn(4, 8, generator=generator)[labels]
    model = nn.Sequential(nn.Linear(8, 4)).eval()
    ours = NormalizedMahalanobis(model).fit((features, labels)).predict(features[:500])
    unit = nn.functional.normalize(features, dim=1)
    theirs = pytorch_ood.detector.Mahalanobis(encoder=None).fit_features(unit, labels).predict_features(unit[:500])
    ratio = ours.numpy() / theirs.numpy() / 4000
    assert ratio == pytest.approx(np.ones(500), rel=0.05)


def test_units_that_known_images_never_use_do_not_decide():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(900) % 3
    features = torch.randn(900, 6, generator=generator) + 2 * torch.eye(3, 6)[labels]
    features[:, 5] = 0
    model = nn.Sequential(nn.Linear(6, 3)).eval()
    detector = NormalizedMahalanobis(model).fit((features[:600], labels[:600]))
    known = features[600:].clone()
    known[:, 5] = 1e-3 * torch.randn(300, generator=generator)
    far = torch.randn(300, 6, generator=generator) - 4 * torch.eye(3, 6)[labels[:300]]
    far[:, 5] = 0
    scores = torch.cat([detector.predict(known), detector.predict(far)])
    assert roc_auc_score([0] * 300 + [1] * 300, scores) > 0.9
    unit = nn.functional.normalize(torch.cat([known, far]), dim=1)
    theirs = pytorch_ood.detector.Mahalanobis(encoder=None)
    theirs.fit_features(nn.functional.normalize(features[:600], dim=1), labels[:600])
    # What the shrinkage is for: without it a thousandth of a dead unit outweighs everything else.
    assert roc_auc_score([0] * 300 + [1] * 300, theirs.predict_features(unit)) < 0.7


def test_the_last_call_of_a_linear_layer_counts():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.head(torch.tanh(self.body(self.head(x))))

    torch.manual_seed(0)
    model, x, labels = Twice().eval(), torch.randn(80, 4), torch.arange(80) % 4
    with torch.no_grad():
        features = torch.tanh(model.body(model.head(x))).double().numpy()
    scores = NormalizedMahalanobis(model).fit((x, labels)).predict(x)
    np.testing.assert_allclose(scores, by_hand(features, labels.numpy(), features), rtol=1e-6)


def test_labels_are_needed_and_each_class_must_occur(model, digits):
    images, labels = digits.fit
    with pytest.raises(InputError, match=r"needs the true class of each known image; give \(images, labels\)"):
        NormalizedMahalanobis(model).fit(images)
    keep = (labels != 3) & (labels != 7)
    with pytest.raises(InputError, match=r"class\(es\) 3, 7 of the model's 10 have no known image"):
        NormalizedMahalanobis(model).fit((images[keep], labels[keep]))
    with pytest.raises(InputError, match="label 10 is outside 0 to 9"):
        NormalizedMahalanobis(model).fit((images, labels + 1))
    with pytest.raises(InputError, match="learns nothing from challenges"):
        NormalizedMahalanobis(model).fit(digits.fit, challenges=images)
    with pytest.raises(NotFittedError, match="NormalizedMahalanobis cannot predict yet"):
        NormalizedMahalanobis(model).predict(images)


def test_models_without_penultimate_features_need_an_encoder():
    convolutional = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images, labels = torch.rand(30, 1, 6, 6), torch.arange(30) % 3
    with pytest.raises(ModelError, match="no linear layer to take features from; give encoder="):
        NormalizedMahalanobis(convolutional).fit((images, labels))
    sequence = nn.Sequential(nn.Linear(6, 6), nn.Flatten(1), nn.Unflatten(1, (6, 6)), nn.Linear(6, 1), nn.Flatten())
    with pytest.raises(ModelError, match=r"'3' gives features \(30, 6, 6\)"):
        NormalizedMahalanobis(sequence.eval()).fit((images, labels))
    detector = NormalizedMahalanobis(convolutional, encoder=lambda x: x.mean((1, 3))).fit((images, labels))
    assert detector.predict(images).shape == (30,)
