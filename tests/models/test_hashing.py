"""The fingerprint of weights: blind to what does not matter, sharp for what does."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer.models import weights_hash
from gradiometer.models.resnet import ResNet


def network() -> nn.Module:
    torch.manual_seed(3)
    return ResNet((1, 1), (4, 8), classes=3)


def test_hash_is_that_of_its_definition() -> None:
    layer = nn.Linear(2, 3)
    expected = hashlib.sha256()
    expected.update(b"'bias' float32 (3,);" + np.asarray(layer.bias.detach()).tobytes())
    expected.update(b"'weight' float32 (3, 2);" + np.asarray(layer.weight.detach()).tobytes())
    assert weights_hash(layer) == expected.hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.requires_grad_(requires_grad=False),
        lambda model: model.eval(),
        lambda model: model.to(memory_format=torch.channels_last),
        lambda model: setattr(model, "note", 3),
    ],
    ids=["frozen", "evaluation mode", "channels last", "attribute"],
)
def test_what_does_not_change_the_weights_does_not_change_the_hash(change) -> None:
    model = network()
    change(model)
    assert weights_hash(model) == weights_hash(network())


def test_a_reordered_state_dict_has_the_same_hash() -> None:
    a, b = nn.Module(), nn.Module()
    a.first, a.second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1))
    b.second, b.first = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(2))
    assert weights_hash(a) == weights_hash(b)


@pytest.mark.parametrize("name", [name for name, _ in network().state_dict().items()])
def test_one_changed_value_anywhere_changes_the_hash(name: str) -> None:
    model = network()
    values = model.state_dict()[name].reshape(-1)
    values[-1] += 1
    assert weights_hash(model) != weights_hash(network())


def test_names_shapes_and_types_count() -> None:
    def holder(name: str, value: torch.Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, value)
        return module

    zeros = torch.zeros(4)
    hashes = {
        weights_hash(holder("a", zeros)),
        weights_hash(holder("b", zeros)),
        weights_hash(holder("a", zeros.view(2, 2))),
        weights_hash(holder("a", zeros.int())),
        weights_hash(holder("a", torch.zeros(8, dtype=torch.bfloat16))),
        weights_hash(holder("a", torch.zeros(8, dtype=torch.float16))),
        weights_hash(holder("a", torch.zeros(()))),
        weights_hash(nn.Module()),
    }
    assert len(hashes) == 8
