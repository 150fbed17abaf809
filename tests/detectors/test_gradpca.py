"""GradPCA against the definition, with gradients of single images and the covariance of the class means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer.detectors import GradPCA, gradpca, load
from gradiometer.detectors.subspace import MeanSubspace, outside
from gradiometer.errors import InputError, NotFittedError
from gradiometer.gradients import Gradiometer

HIDDEN = ("8.weight", "8.bias")


def gradients(model: nn.Module, images: torch.Tensor, names, value) -> np.ndarray:
    """Gradients of a number made of the logits, one image at a time, as rows."""
    rows = []
    for image in images:
        found = torch.autograd.grad(value(model(image[None])), [model.get_parameter(name) for name in names])
        rows.append(torch.cat([gradient.flatten() for gradient in found]).double().numpy())
    return np.stack(rows)


def by_hand(known: np.ndarray, labels: np.ndarray, queries: np.ndarray, share: float = 0.99) -> np.ndarray:
    """The definition with the principal components of the means as they are."""
    means = np.stack([known[labels == k].mean(0) for k in range(10)])
    centred = means - means.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    shares = np.cumsum(singular**2) / np.sum(singular**2)
    kept = directions[: int(np.argmax(shares >= share)) + 1]
    moved = queries - means.mean(0)
    return 1 - np.linalg.norm(moved @ kept.T, axis=1) / np.linalg.norm(moved, axis=1)


@pytest.fixture
def known(digits):
    return digits.fit[0][:150], digits.fit[1][:150]


@pytest.mark.parametrize(
    ("value", "number"),
    [("max", torch.max), ("sum", torch.sum)],
    ids=["max", "sum"],
)
def test_it_is_the_cosine_to_the_subspace_of_class_means(value, number, model, known, digits):
    queries = digits.test[0][:20]
    expected = by_hand(
        gradients(model, known[0], HIDDEN, number), known[1].numpy(), gradients(model, queries, HIDDEN, number)
    )
    # The last hidden layer is found: the one before the last with a weight.
    detector = GradPCA(model, value=value).fit(known)
    assert detector.explain(queries[:1]).names == ("GradPCA score of gradient of 8.weight, gradient of 8.bias",)
    np.testing.assert_allclose(detector.predict(queries), expected, rtol=1e-4, atol=1e-6)
    assert expected.max() > 2 * expected.min()


def test_of_other_parameters_and_another_share(model, known, digits):
    names, queries = ("3.weight", "4.weight"), digits.test[0][:20]
    parts = [gradients(model, images, names, torch.max) for images in (known[0], queries)]
    found = GradPCA(model, list(names), share=0.6).fit(known)
    np.testing.assert_allclose(
        found.predict(queries), by_hand(parts[0], known[1].numpy(), parts[1], 0.6), rtol=1e-4, atol=1e-6
    )
    assert len(found._subspace.basis) < 9


def test_with_the_sum_of_the_last_layer_it_is_what_features_give_without_a_gradient(model, known, digits):
    queries = digits.test[0][:30]
    with torch.no_grad():
        features = [model[:10](images).double().numpy() for images in (known[0], queries)]
    expected = by_hand(features[0], known[1].numpy(), features[1])
    found = GradPCA(model, "10.*", value="sum").fit(known).predict(queries)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_few_gradients_are_held_at_a_time(model, known, digits, monkeypatch):
    expected = GradPCA(model).fit(known).predict(digits.test[0][:20])
    monkeypatch.setattr(gradpca, "_HELD", 4200 * 3)  # 4,128 entries for each image
    seen = []
    read = Gradiometer.gradients

    def noted(meter, x):
        seen.append(len(x))
        return read(meter, x)

    monkeypatch.setattr(Gradiometer, "gradients", noted)
    detector = GradPCA(model)
    torch.testing.assert_close(detector.fit(known).predict(digits.test[0][:20]), expected)
    assert set(seen) == {1, 2, 3}


def test_directions_that_hold_nothing_are_left_out():
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(6, 2)) @ generator.normal(size=(2, 40))
    found = MeanSubspace.fit(flat, 1.0)
    assert found.basis.shape == (2, 40)
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(outside(*found.squares(flat)), 0, atol=1e-9)
    inside, whole = found.squares(np.stack([found.centre, found.centre + 3 * found.basis[0]]))
    np.testing.assert_allclose((inside, whole), [[0, 9], [0, 9]], atol=1e-9)
    assert outside(np.zeros(1), np.zeros(1)).tolist() == [0.0]
    with pytest.raises(InputError, match="the class means are all the same"):
        MeanSubspace.fit(np.ones((3, 4)), 0.99)


def test_a_network_of_one_layer_is_read_at_that_layer(digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    detector = GradPCA(model).fit((digits.fit[0][:200], digits.fit[1][:200]))
    assert detector._meter.parameters == ("1.weight", "1.bias")


def test_what_it_cannot_learn_from_is_refused(model, known, digits):
    with pytest.raises(NotFittedError):
        GradPCA(model).predict(digits.test[0][:2])
    with pytest.raises(InputError, match="needs the true class of each known image"):
        GradPCA(model).fit(known[0])
    with pytest.raises(InputError, match=r"class\(es\) 3 of the model's 10 have no known image"):
        GradPCA(model).fit((known[0][known[1] != 3], known[1][known[1] != 3]))
    with pytest.raises(InputError, match="value is 'mean'; give 'max' or 'sum'"):
        GradPCA(model, value="mean")
    for share in (0, 1.5):
        with pytest.raises(InputError, match=f"share is {share}"):
            GradPCA(model, share=share)
    with pytest.raises(InputError, match="matches none of the 12 parameters"):
        GradPCA(model, "layer4.*")


def test_a_failed_fit_brings_the_earlier_one_back(model, known, digits, tmp_path):
    detector = GradPCA(model).fit(known)
    before = detector.predict(digits.test[0][:10])
    with pytest.raises(InputError):
        detector.fit((known[0], torch.zeros_like(known[1])))
    assert torch.equal(detector.predict(digits.test[0][:10]), before)
    detector.save(tmp_path / "gradpca.safetensors")
    again = load(tmp_path / "gradpca.safetensors", model)
    assert (again.parameters, again.value, again.share) == (None, "max", 0.99)
    assert torch.equal(again.predict(digits.test[0][:10]), before)
