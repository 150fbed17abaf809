"""The check of a plan against the loop: what leaves a parameter to the loop, and what does not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradiometer.gradients import Gradiometer
from gradiometer.gradients.reader import Reader


def test_others_that_are_left_to_the_loop_do_not_stop_the_next_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    backward, calls = Reader.backward, itertools.count()

    def disturbed(self: Reader, *given: Any, **named: Any) -> dict[str, Tensor]:
        found = backward(self, *given, **named)
        if next(calls) < 2:
            found["0.weight"][1] *= 1.01
            found.get("2.weight", torch.zeros(3))[:] *= 2
        return found

    monkeypatch.setattr(Reader, "backward", disturbed)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    paths = {line.parameter: line.path for line in Gradiometer(network).plan(torch.rand(5, 4)).lines}
    assert paths == {"0.weight": "outer", "0.bias": "sum", "2.weight": "loop", "2.bias": "sum"}


@pytest.mark.parametrize(
    ("factor", "draws", "path"),
    [(1.01, 2, "outer"), (1.01, 99, "loop"), (2.0, 2, "loop")],
    ids=["one draw, a little", "every draw, a little", "one draw, a lot"],
)
def test_a_switched_unit_is_no_wrong_rule(
    factor: float, draws: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample that differs a little may be a unit at its kink; other samples have the last word."""
    backward, calls = Reader.backward, itertools.count()

    def disturbed(self: Reader, *given: Any, **named: Any) -> dict[str, Tensor]:
        found = backward(self, *given, **named)
        if next(calls) < draws and "0.weight" in found:
            found["0.weight"][1] *= factor
        return found

    monkeypatch.setattr(Reader, "backward", disturbed)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    lines = Gradiometer(network).plan(torch.rand(5, 4)).lines
    assert {line.parameter: line.path for line in lines}["0.weight"] == path
    assert {line.path for line in lines if line.parameter != "0.weight"} == {"outer", "sum"}


def test_the_model_has_its_own_tensors_back_after_a_look_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    backward, calls = Reader.backward, itertools.count()

    def disturbed(self: Reader, *given: Any, **named: Any) -> dict[str, Tensor]:
        found = backward(self, *given, **named)
        types.add(found["0.weight"].dtype if next(calls) < 2 else self._parameters["0.weight"].dtype)
        found["0.weight"] = found["0.weight"] * 1.01
        return found

    types: set[torch.dtype] = set()
    monkeypatch.setattr(Reader, "backward", disturbed)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
    before = {name: (tensor, tensor.data_ptr(), tensor.clone()) for name, tensor in network.state_dict().items()}
    Gradiometer(network).plan(torch.rand(5, 3, 4, 4))
    assert torch.float64 in types
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == before[name][1], name
        assert tensor.dtype == before[name][2].dtype, name
        assert torch.equal(tensor, before[name][2]), name


def test_a_model_that_names_its_own_type_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be run in float64, so that a small difference stays in doubt."""

    class Single(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.float())

    backward = Reader.backward

    def disturbed(self: Reader, *given: Any, **named: Any) -> dict[str, Tensor]:
        found = backward(self, *given, **named)
        found["0.weight"] = found["0.weight"] * torch.tensor([1.0, 1.01, 1.0])
        return found

    monkeypatch.setattr(Reader, "backward", disturbed)
    network = nn.Sequential(Single(4, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    paths = {line.parameter: line.path for line in Gradiometer(network).plan(torch.rand(5, 4)).lines}
    assert paths == {"0.weight": "loop", "0.bias": "sum", "2.weight": "outer", "2.bias": "sum"}
