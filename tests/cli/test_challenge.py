"""`gradiometer challenge`: what it writes is what the library makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gradiometer import data, models
from gradiometer.challenges import attack, attack_images, corrupt, corruption
from tests.cli.conftest import Run, Workshop


def test_a_corruption(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "haze.npz"
    said = run("challenge", "--images", "digits", "--limit", 50, "--kind", "haze", "--level", 3, "--out", out)
    assert said.code == 0, said.err
    assert said.out.strip() == f"{out}: 50 images, haze at level 3"
    originals = data.load("digits", limit=50)
    found = data.load(out)
    assert torch.equal(found.images, corrupt(originals, corruption("haze", 3)).images)
    assert torch.equal(found.groups, originals.groups)
    assert found.labels is not None
    assert originals.labels is not None
    assert torch.equal(found.labels, originals.labels)
    assert found.classes == originals.classes


def test_an_attack_with_settings_and_a_cache(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "attacked.npz"
    words = ("challenge", "--images", "digits@80-100", "--limit", 30, "--model", workshop.model, "--kind", "bim")
    words += ("--settings", "{epsilon: 0.1, steps: 5}", "--cache", tmp_path / "cache", "--batch-size", 16, "--out", out)
    said = run(*words)
    assert said.code == 0, said.err
    assert len(list((tmp_path / "cache").iterdir())) == 2
    once = data.load(out)
    assert run(*words).code == 0
    assert torch.equal(data.load(out).images, once.images)
    rows = once.groups.tolist()
    originals = data.load("digits").select(rows)
    expected = attack_images(
        attack("bim", epsilon=0.1, steps=5), models.load(str(workshop.model)), originals, batch_size=16
    )
    assert torch.equal(once.images, expected.images)


def test_the_seed_of_an_attack_that_draws(run: Run, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=rgb)
    found = []
    for seed in (0, 1):
        words = (
            "--kind",
            "colour_shift",
            "--settings",
            "{trials: 3}",
            "--seed",
            seed,
            "--out",
            tmp_path / f"{seed}.npz",
        )
        said = run("challenge", "--images", tmp_path / "colour.npz", "--model", "resnet20-cifar10", *words)
        assert said.code == 0, said.err
        found.append(data.load(tmp_path / f"{seed}.npz").images)
    assert not torch.equal(*found)


def test_images_without_labels_are_led_away_from_the_prediction(workshop: Workshop, run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=data.load("digits", limit=8).images[:, 0].numpy())
    out = tmp_path / "attacked.npz"
    said = run(
        *("challenge", "--images", tmp_path / "bare.npz", "--kind", "fgsm", "--model", workshop.model, "--out", out)
    )
    assert said.code == 0, said.err
    assert "no labels" in said.err
    assert data.load(out).labels is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "hase", "--level", 3], "unknown kind 'hase'; there are the corruptions gaussian_noise"),
        (["--kind", "haze"], "choose one with --level"),
        (["--kind", "haze", "--level", 6], "1, 2, 3, 4 or 5, got 6"),
        (["--kind", "haze", "--level", 3, "--model", "resnet20-cifar10"], "leave --model"),
        (["--kind", "haze", "--level", 3, "--cache", "here"], "leave --cache out"),
        (
            ["--kind", "haze", "--level", 3, "--settings", "{steps: 4}", "--batch-size", 8],
            "leave --settings, --batch-size out",
        ),
        (["--kind", "pgd"], "name it with --model"),
        (["--kind", "pgd", "--level", 2, "--model", "x"], "has no levels"),
        (["--kind", "pgd", "--model", "x", "--settings", "{eps: 1}"], "no setting 'eps'"),
        (["--kind", "saturate", "--level", 1], "the images are grey"),
        (
            ["--kind", "fgsm", "--model", "resnet20-cifar10", "--batch-size", 0],
            "batch_size is 0; give a whole number of 1 or more",
        ),
    ],
)
def test_wrong_use(run: Run, tmp_path: Path, words: list[object], message: str) -> None:
    said = run("challenge", "--images", "digits", "--limit", 4, "--out", tmp_path / "x.npz", *words)
    assert said.code == 1
    assert message in said.err
    assert not list(tmp_path.iterdir())


def test_another_ending_or_folder(run: Run, tmp_path: Path) -> None:
    for out, message in (("x.png", "ends in .npz"), ("nowhere/x.npz", "there is no folder")):
        said = run("challenge", "--images", "digits", "--kind", "haze", "--level", 3, "--out", tmp_path / out)
        assert said.code == 1
        assert message in said.err
