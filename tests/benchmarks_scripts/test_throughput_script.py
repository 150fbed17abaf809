"""Reading beside training: the ratio comes from the seconds of the portions."""

import json

import numpy as np
import pytest


def test_the_ratio_is_that_of_the_portions(script, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar10.npz", train_images=pixels, train_labels=np.arange(24) % 10)
    printed, _ = script(
        *("throughput", "--data-root", tmp_path, "--images", 24, "--portion", 8, "--batch-size", 4),
        *("--output", tmp_path / "out"),
    )

    found = json.loads((tmp_path / "out" / "throughput.json").read_text())
    sums = {name: sum(portions) for name, portions in found["portions"].items()}
    assert [len(portions) for portions in found["portions"].values()] == [3, 3]
    assert found["ratio"] == pytest.approx(sums["reading"] / sums["training"])
    assert found["ratios"][0] <= found["median_ratio"] <= found["ratios"][1]
    assert printed == (tmp_path / "out" / "throughput.md").read_text()
