"""A plan made on one batch must not give wrong numbers on another: right, or a named error.

The first batch is what the owner happens to have: a warm-up with zeros, sorted rows, equal lengths, dead units. What
could be taken for a property of the network there, and is none, must be noticed when the next batch comes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradiometer.errors import ModelError
from gradiometer.gradients import Gradiometer
from tests.gradients import loop
from tests.gradients.measure import relative_errors
from tests.specimens.plumbing import Experts, Frames
from tests.specimens.sequences import PackedClassifier
from tests.zoo import Inputs


class Sorts(nn.Module):
    """Sorts the samples by a score, runs a layer, and puts them back (as packing by length does)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        h = torch.tanh(self.first(x[order]))
        return self.last(h[order.argsort()])


class DeadThenFolded(nn.Module):
    """Units that only fire for large inputs, folded frame by frame into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        folded = F.relu(x - 3.0).transpose(0, 1).reshape(frames * batch, -1)
        h = (self.features(folded) - self.features.bias).view(frames, batch, -1).transpose(0, 1)
        return self.head(h.mul(torch.linspace(0.5, 2.0, frames).to(x).view(1, -1, 1)).sum(1))


class FoldedTokens(nn.Module):
    """Looks tokens up frame by frame, in a folded batch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.shape
        h = self.table(x.T.reshape(-1)).view(length, batch, -1).transpose(0, 1)
        return self.head((torch.tanh(h) * torch.linspace(0.5, 2.0, length).to(h).view(1, -1, 1)).sum(1))


def lengths(*values: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(values))
    return {"ids": torch.randint(6, (len(values), 5), generator=generator), "lengths": torch.tensor(values)}


def rows(batch: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SORTED = rows(6, 5).sort(0).values
TOKENS = torch.randint(6, (4, 5), generator=torch.Generator().manual_seed(0))
CASES: dict[str, tuple[Callable[[], nn.Module], Inputs, Inputs]] = {
    "sorted rows first": (Sorts, SORTED, SORTED[[3, 1, 5, 0, 2, 4]]),
    "one expert first": (Experts, rows(1, 5).repeat(4, 1), rows(8, 5, seed=1)),
    "equal lengths first": (PackedClassifier, lengths(5, 5, 5, 5), lengths(5, 1, 4, 2)),
    "falling lengths first": (PackedClassifier, lengths(5, 4, 3), lengths(3, 4, 5)),
    "lengths of one first": (PackedClassifier, lengths(1, 1, 1, 1), lengths(5, 1, 4, 2)),
    "dead units first": (DeadThenFolded, rows(4, 3, 5) * 0.1, rows(4, 3, 5, seed=1) * 6),
    "zeros first": (lambda: Frames(frame_major=True), torch.zeros(4, 4, 2, 4, 4).double(), rows(4, 4, 2, 4, 4)),
    "copies first": (lambda: Frames(frame_major=True), rows(1, 4, 2, 4, 4).repeat(4, 1, 1, 1, 1), rows(4, 4, 2, 4, 4)),
    "padding first": (FoldedTokens, torch.zeros(4, 5, dtype=torch.int64), TOKENS),
    "equal tokens first": (FoldedTokens, torch.arange(4).unsqueeze(1).repeat(1, 5), TOKENS),
    "one sample first": (Sorts, rows(1, 5), rows(6, 5, seed=3)),
}


def check(meter: Gradiometer, model: nn.Module, inputs: Inputs) -> None:
    wanted = loop.loop_gradients(model, inputs, loop.bce_with_logits())
    found = meter.squared_norms(inputs).values
    assert relative_errors(found, wanted, "squared_norms", 1e-2).max() <= 1e-8
    assert relative_errors(meter.gradients(inputs), wanted, "gradients", 1e-2).max() <= 1e-8


@pytest.mark.parametrize("case", CASES)
def test_the_second_batch_is_of_another_kind(case: str) -> None:
    factory, first, second = CASES[case]
    torch.manual_seed(0)
    model = factory().double().eval()
    meter = Gradiometer(model)
    with suppress(ModelError):
        check(meter, model, first)
        check(meter, model, second)
        check(meter, model, first)


class Clips(nn.Module):
    """A model of which its owner changes a part between two readings."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames(frame_major=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frames(x)


def owner_replaces_a_parameter(model: Clips) -> None:
    model.frames.head.weight = nn.Parameter(model.frames.head.weight.detach() * 2)


def owner_loads_weights(model: Clips) -> None:
    model.load_state_dict({name: value * 1.5 for name, value in model.state_dict().items()})


def owner_adds_a_hook(model: Clips) -> None:
    model.frames.features.register_forward_hook(lambda module, arguments, output: output * 0.5)


def owner_replaces_a_layer(model: Clips) -> None:
    model.frames.head = nn.Linear(5, 4).double()


def owner_freezes(model: Clips) -> None:
    model.requires_grad_(False)


CHANGES = (
    owner_replaces_a_parameter,
    owner_loads_weights,
    owner_adds_a_hook,
    owner_replaces_a_layer,
    owner_freezes,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_owner_changes_the_model_between_two_readings(change: Callable[[Any], None]) -> None:
    torch.manual_seed(0)
    model = Clips().double().eval()
    meter = Gradiometer(model)
    inputs = rows(4, 4, 2, 4, 4)
    check(meter, model, inputs)
    change(model)
    with suppress(ModelError):
        check(meter, model, inputs)


def test_the_owner_changes_the_precision_between_two_readings() -> None:
    torch.manual_seed(0)
    model = Clips().eval()
    meter = Gradiometer(model)
    meter.squared_norms(rows(4, 4, 2, 4, 4).float())
    model.double()
    check(meter, model, rows(4, 4, 2, 4, 4))


def test_shapes_may_alternate() -> None:
    """Images of several sizes through one instrument."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    model.double().eval()
    meter = Gradiometer(model)
    for size in (5, 8, 5, 11, 8):
        check(meter, model, rows(3, 1, size, size, seed=size))
