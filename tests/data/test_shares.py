"""Shares of a set: the same rows for whoever asks, and no base image in two of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer import data
from gradiometer.benchmarks.loading import Loader
from gradiometer.cli.sources import Reading, load, parse
from gradiometer.data import Images
from gradiometer.data.shares import STEP, share, some
from gradiometer.errors import InputError


def written_out(whole: Images, low: int, high: int, limit: int | None) -> list[int]:
    """The rows of a share from `low` to `high` tenths, step by step."""
    numbered = replace(whole, names=tuple(map(str, range(len(whole)))))
    tenths = data.split(numbered, {str(part): 1 / 10 for part in range(10)})
    rows = [int(name) for part in range(low, high) for name in tenths[str(part)].names]
    if limit is not None and limit < len(rows):
        kept = np.sort(np.random.default_rng(0).choice(len(rows), limit, replace=False))
        rows = [rows[at] for at in kept.tolist()]
    return rows


def same(found: Images, whole: Images, rows: list[int]) -> bool:
    assert whole.labels is not None
    assert found.labels is not None
    return (
        found.names == tuple(whole.names[row] for row in rows)
        and torch.equal(found.images, whole.images[rows])
        and torch.equal(found.labels, whole.labels[rows])
        and torch.equal(found.groups, whole.groups[rows])
        and found.classes == whole.classes
    )


@pytest.mark.parametrize(("low", "high", "limit"), [(0, 60, None), (60, 100, 50), (30, 40, 1), (0, 100, None)])
def test_a_share_is_that_of_the_tenths_in_their_order(low: int, high: int, limit: int | None) -> None:
    pixels = torch.arange(400).remainder(251).to(torch.uint8).view(400, 1, 1, 1)
    whole = Images.of(pixels, torch.arange(400) // 100, classes=("a", "b", "c", "d"))
    whole = replace(whole, groups=torch.arange(400) // 2)  # two rows of each base image
    assert same(some(share(whole, low, high), limit), whole, written_out(whole, low // 10, high // 10, limit))


def test_the_command_line_and_the_tables_cut_a_set_alike(tmp_path: Path) -> None:
    data.save(data.load("digits", limit=500), tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as arrays:
        np.savez(tmp_path / "known.npz", test_images=arrays["images"], test_labels=arrays["labels"])
    whole = data.load("known", root=tmp_path, split="test")
    fit, held_out = Loader(tmp_path, 8, 1).known("known", 100, None)
    reading = Reading(data_root=str(tmp_path))
    assert same(fit, whole, written_out(whole, 0, 6, 100))
    assert same(held_out, whole, written_out(whole, 6, 10, None))
    assert same(load("known:test@0-60", reading, limit=100), whole, written_out(whole, 0, 6, 100))
    assert same(load("known:test@60-100", reading), whole, written_out(whole, 6, 10, None))


def test_a_set_without_labels_has_shares_without_labels() -> None:
    bare = Images.of(torch.zeros(40, 1, 2, 2, dtype=torch.uint8))
    part = share(bare, 20, 50)
    assert part.labels is None
    assert len(part) == 12
    with pytest.raises(InputError, match="too few"):
        share(bare.select(range(9)), 0, 50)


def test_the_command_line_takes_the_shares_that_there_are() -> None:
    assert parse(f"digits@{STEP}-{100 - STEP}").share == (STEP, 100 - STEP)
    with pytest.raises(InputError, match="tens of percent"):
        parse(f"digits@0-{STEP // 2}")
