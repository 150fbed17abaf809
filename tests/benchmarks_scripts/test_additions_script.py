"""What one more member would add to Guard: readings against autograd, members by hand, tables from their record."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adding import candidates, figures, reading
from torch import nn

from gradiometer.data import Images

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "additions"


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()]
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return Images.of(torch.randint(256, (7, 3, 8, 8), generator=generator, dtype=torch.uint8))


def test_readings_are_those_of_autograd_and_come_back_from_disk(network, images, tmp_path):
    said = []
    readings = reading.Readings(network, tmp_path, said.append)
    readings.learn(images)
    found = readings.read(images, "some")

    pixels = next(images.batches(7)).requires_grad_()
    top = network(pixels).topk(2).values
    for row in range(7):
        margin = top[row, 0] - top[row, 1]
        *gradients, slope = torch.autograd.grad(margin, [*network.parameters(), pixels], retain_graph=True)
        assert found["margin"][row, 0] == pytest.approx(margin.item(), rel=1e-4)
        assert found["slope"][row, 0] == pytest.approx(float(slope[row].norm()), rel=1e-4)
        squares = [float(g.square().sum()) for g in gradients]
        np.testing.assert_allclose(found["pairs"][row], squares, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(
        found["eigenvalues"].sum(1), found["traces"].sum(1), rtol=1e-6, err_msg="a trace is the sum of the eigenvalues"
    )
    assert (np.abs(found["cosines"]) <= 1 + 1e-6).all()

    before = len(said)
    again = readings.read(images, "some")
    assert len(said) == before
    assert all(np.array_equal(again[name], found[name]) for name in found)


def test_a_member_of_one_class_is_the_tail_of_a_mahalanobis_distance():
    generator = np.random.default_rng(0)
    values, logits = generator.normal(size=(400, 2)), np.tile([1.0, 0.0], (400, 1))
    known = {"logits": logits, "values": values}
    apart = np.arange(400) >= 300
    member = candidates.learn("class", lambda arrays: arrays["values"], known, np.zeros(400, dtype=np.int64), apart)
    centre, far = member({"logits": logits[:2], "values": np.array([values[:300].mean(0), [9.0, 9.0]])})
    assert centre == pytest.approx(0.0)  # every held-out image is farther away
    assert far > np.log(101)


def test_a_small_margin_is_strange():
    known = {"logits": np.eye(3)[np.arange(90) % 3], "margin": np.arange(1.0, 91)[:, None]}
    apart = np.arange(90) >= 45
    member = candidates.learn("small", lambda arrays: arrays["margin"], known, np.arange(90) % 3, apart)
    surprises = member({"logits": np.eye(3)[:2], "margin": np.array([[1.0], [1000.0]])})
    assert surprises[0] > surprises[1] == pytest.approx(0.0)


def test_differences_are_paired():
    scores = np.random.default_rng(0).normal(size=200)
    found = figures.areas(scores, {"a": scores + 1, "b": scores}, seed=0, draws=20)
    same = figures.difference(found, found)
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["b"][0] == pytest.approx(0.5)


def test_the_table_is_what_the_record_says(script):
    printed, _ = script("additions", "--render", RESULTS / "additions.json")
    assert printed == (RESULTS / "additions.md").read_text()
    document = json.loads((RESULTS / "additions.json").read_text())
    for half in document["halves"].values():
        for base in half["bases"].values():
            assert base["mean"] == pytest.approx(np.mean(list(base["kinds"].values())))
            for row in base["rows"]:
                assert row["adds"]["value"] == pytest.approx(np.mean([k["value"] for k in row["kinds"].values()]))
