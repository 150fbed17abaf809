"""Checkpoints of trainings: what is read of one does not hold its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gradiometer.models import checkpoint

MAPS = Path("/proc/self/maps")


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells which files are mapped")
def test_a_checkpoint_that_was_read_can_be_replaced_on_every_system(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = nn.Linear(400, 300)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 400)).sum().backward()
    optimizer.step()
    progress = checkpoint.Reached([{"epoch": 1}], {"best.weight": torch.ones(300, 400)}, {})
    checkpoint.save(path, model, optimizer, {}, "images", progress)
    other = nn.Linear(400, 300)
    second = torch.optim.Adam(other.parameters())
    found = checkpoint.resume(path, other, second, {}, "images")
    # Windows refuses to replace a file that is mapped into memory.
    assert str(path) not in MAPS.read_text(encoding="utf-8")
    assert torch.equal(found.tensors["best.weight"], progress.tensors["best.weight"])
    assert torch.equal(second.state[other.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])
