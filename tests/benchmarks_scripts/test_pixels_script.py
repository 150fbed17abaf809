"""A network on pixels: it learns what is there, and a run goes on where the last one ended."""

import json

import numpy as np
import pytest


def test_a_network_on_pixels_learns_what_a_corruption_changes(script, tmp_path):
    generator = np.random.default_rng(0)
    pixels = np.repeat(generator.integers(60, 200, (96, 1, 1, 3), dtype=np.uint8), 32, axis=1).repeat(32, axis=2)
    np.savez(
        tmp_path / "cifar10.npz",
        train_images=pixels[:64],
        train_labels=np.arange(64) % 10,
        test_images=pixels[64:],
        test_labels=np.arange(32) % 10,
    )
    settings = ("--epochs", 6, "--batch-size", 16, "--learning-rate", 0.01, "--draws", 20)
    call = ("pixels", "--data-root", tmp_path, *settings, "--output", tmp_path / "out", "--kinds")
    printed, _ = script(*call, "Noise 5")
    [row] = json.loads((tmp_path / "out" / "pixels.json").read_text())["rows"]
    assert (row["kind"], row["images"], row["test_images"]) == ("Noise 5", 64, 32)
    assert row["auroc"]["value"] > 0.8
    assert row["training"]["images"] == {"train": 128, "test": 64}
    assert printed == (tmp_path / "out" / "pixels.md").read_text()
    again, told = script(*call, "Noise 5", "Haze 5")
    rows = json.loads((tmp_path / "out" / "pixels.json").read_text())["rows"]
    assert rows[0] == row
    assert [entry["kind"] for entry in rows] == ["Noise 5", "Haze 5"]
    assert "Noise 5: there already" in told
    assert again.count("\n| ") == 4


def test_an_unknown_kind_is_named_before_anything_is_read(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script("pixels", "--data-root", tmp_path, "--kinds", "Rain 3")
    assert "invalid choice: 'Rain 3'" in capsys.readouterr().err
