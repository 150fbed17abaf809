"""Values that users give are refused by name before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer import anomaly, detectors, gradients
from gradiometer.detectors.layers import asked
from gradiometer.errors import InputError
from gradiometer.given import number, switch, whole


@pytest.mark.parametrize("value", [1, 7, np.int64(7), torch.tensor(7)])
def test_whole_numbers_of_any_kind(value: Any) -> None:
    found = whole("k", value)
    assert found == int(value)
    assert type(found) is int


@pytest.mark.parametrize("value", ["5", 2.0, 2.5, None, True, np.True_, [3], float("nan"), 0, -1])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(InputError, match=r"^k is .*; give a whole number of 1 or more$"):
        whole("k", value)


def test_whole_numbers_in_a_range() -> None:
    assert [whole("k", value, 0, 2) for value in (0, 1, 2)] == [0, 1, 2]
    for value in (-1, 3):
        with pytest.raises(InputError, match=rf"^k is {value}; give a whole number from 0 to 2$"):
            whole("k", value, 0, 2)


def test_limits_of_numbers() -> None:
    assert [number("x", value, "a share", least=0, most=1) for value in (0, np.float32(0.5), 1)] == [0, 0.5, 1]
    assert number("x", 1e-9, "something above 0", above=0) == 1e-9
    for value in (0, 1, "0.5", None, True, float("nan"), float("inf"), np.float64("nan")):
        with pytest.raises(InputError, match=r"^x is .*; give a share$"):
            number("x", value, "a share", above=0, below=1)


def test_switches() -> None:
    assert switch("s", True) is True
    assert switch("s", np.False_) is False
    for value in ("no", 0, 1, None):
        with pytest.raises(InputError, match=r"^s is .*; give True or False$"):
            switch("s", value)


def test_layers() -> None:
    assert asked(np.int64(3)) == 3
    assert asked(("a", "b")) == ["a", "b"]
    assert asked(0, least=0) == 0
    for value in ("layer1", 0, [], [1], 2.5, None, True):
        with pytest.raises(InputError, match=r"^layers is "):
            asked(value)


def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: detectors.Guard(model(), neighbours="5"), "neighbours"),
        (lambda: detectors.Guard(model(), smoothing="no"), "smoothing"),
        (lambda: detectors.Guard(model(), gradients="yes"), "gradients"),
        (lambda: detectors.Guard(model(), step="2"), "step"),
        (lambda: detectors.Guard(model(), step=float("nan")), "step"),
        (lambda: detectors.Guard(model(), layers="1"), "layers"),
        (lambda: detectors.Guard(model(), seed="a"), "seed"),
        (lambda: detectors.Purview(model(), activations="no"), "activations"),
        (lambda: detectors.Purview(model(), layers=-1), "layers"),
        (lambda: detectors.Control(model(), neighbours=2.5), "neighbours"),
        (lambda: detectors.KNN(model(), neighbours=0), "neighbours"),
        (lambda: detectors.LID(model(), neighbours=30, reference=20), "neighbours"),
        (lambda: detectors.LID(model(), reference="many"), "reference"),
        (lambda: detectors.DDU(model(), jitter=0), "jitter"),
        (lambda: detectors.ODIN(model(), temperature=0), "temperature"),
        (lambda: detectors.ODIN(model(), epsilon=-1), "epsilon"),
        (lambda: detectors.MCDropout(model(), passes=1), "passes"),
        (lambda: detectors.MCDropout(model(), part="half"), "part"),
        (lambda: detectors.ReAct(model(), percentile=90), "percentile"),
        (lambda: detectors.Mahalanobis(model(), layers=0), "layers"),
        (lambda: detectors.Mahalanobis(model(), epsilon="small"), "epsilon"),
        (lambda: detectors.ViM(model(), dimensions=0), "dimensions"),
        (lambda: detectors.DecisionNetwork(hidden=0), "hidden"),
        (lambda: detectors.DecisionNetwork(validation=1), "validation"),
        (lambda: detectors.MSP(model(), batch_size=True), "batch_size"),
        (lambda: detectors.GradPCA(model(), share="0.9"), "share"),
        (lambda: detectors.GradPCA(model(), share=0), "share"),
        (lambda: detectors.GAIA(model(), form="channel-average", gradients="no"), "gradients"),
        (lambda: gradients.RandomContrasts("3"), "draws"),
        (lambda: gradients.RandomContrasts(0), "draws"),
        (lambda: anomaly.GradCon(anomaly.make_network("cae", 1, (28, 28)), neighbours="3"), "neighbours"),
        (lambda: anomaly.GradCon(anomaly.make_network("cae", 1, (28, 28)), beta=float("inf")), "beta"),
    ],
)
def test_arguments_are_refused_by_name(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} is .*; give "):
        make()
