"""TensorBoard reads back the figures that a training reports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from gradiometer.anomaly import AnomalyRecipe, Curves, train
from gradiometer.errors import DependencyError


def test_every_epoch_has_its_losses_and_its_cosine(tmp_path: Path) -> None:
    accumulation = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    known = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    epochs: list[dict[str, float]] = []
    for count in (2, 3):  # the second training continues the first, and its curves
        with Curves(tmp_path / "curves") as curves:

            def both(figures: dict[str, float], curves: Curves = curves) -> None:
                epochs.append(figures)
                curves(figures)

            train(known, known, AnomalyRecipe(epochs=count, batch_size=8), tmp_path / "run", progress=both)
    found = accumulation.EventAccumulator(str(tmp_path / "curves")).Reload()
    for curve, name, sign in (
        ("loss/reconstruction/train", "reconstruction", 1),
        ("loss/latent/train", "latent", 1),
        ("gradient/loss/train", "cosine", -1),
        ("gradient/mean cosine/validation", "validation_cosine", 1),
        ("loss/total/validation", "validation_loss", 1),
    ):
        events = found.Scalars(curve)
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx([sign * figures[name] for figures in epochs])


def test_without_tensorboard_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DependencyError, match=r"gradiometer\[tensorboard\]"):
        Curves(tmp_path)
