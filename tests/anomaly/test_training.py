"""Training: interrupted anywhere it goes on to the same bits, and it refuses what it cannot continue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from gradiometer.anomaly import AnomalyRecipe, Constraint, Trained, train
from gradiometer.anomaly.training import CHECKPOINT
from gradiometer.errors import ArtefactError, InputError


class Interrupted(Exception):
    """Stands for a key press or a power cut."""


def pixels(count: int, seed: int = 0, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)


KNOWN, VALIDATION = pixels(40), pixels(10, seed=1)


def a_recipe(**settings: Any) -> AnomalyRecipe:
    return AnomalyRecipe(**{"epochs": 3, "batch_size": 16, **settings})


def interrupt_at(at: int) -> Any:
    def steps(done: int, total: int) -> None:
        assert total == 9
        if done == at:
            raise Interrupted

    return steps


def same(one: Trained, other: Trained) -> bool:
    pairs = [
        *zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True),
        *zip(one.reference.values(), other.reference.values(), strict=True),
    ]
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("network", ["cae", "vae"])
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_an_interruption_at_any_step_changes_not_one_bit(network: Any, at: int, tmp_path: Path) -> None:
    recipe = a_recipe(network=network)
    whole = train(KNOWN, VALIDATION, recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(KNOWN, VALIDATION, recipe, tmp_path / "parts", checkpoint_steps=1, steps=interrupt_at(at))
    again = train(KNOWN, VALIDATION, recipe, tmp_path / "parts", checkpoint_steps=2)
    assert same(whole, again)
    drop = {"seconds"}
    for first, second in zip(whole.record["epochs"], again.record["epochs"], strict=True):
        assert {k: v for k, v in first.items() if k not in drop} == {k: v for k, v in second.items() if k not in drop}


def test_an_interruption_while_the_checkpoint_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(KNOWN, VALIDATION, a_recipe(), tmp_path / "whole")
    real, calls = safetensors.torch.save_file, []

    def cut_short(tensors: Any, path: Path, metadata: Any = None) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half of a file")
            raise Interrupted
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", cut_short)
    with pytest.raises(Interrupted):
        train(KNOWN, VALIDATION, a_recipe(), tmp_path / "parts")
    assert same(whole, train(KNOWN, VALIDATION, a_recipe(), tmp_path / "parts"))


def test_the_best_weights_come_with_the_reference_of_their_epoch(tmp_path: Path) -> None:
    recipe = a_recipe(epochs=6, learning_rate=0.05)
    trained = train(KNOWN, VALIDATION, recipe, tmp_path / "long")
    losses = [figures["validation_loss"] for figures in trained.record["epochs"]]
    best = losses.index(min(losses))
    assert trained.record["best_epoch"] == best + 1
    up_to_there = train(KNOWN, VALIDATION, a_recipe(epochs=best + 1, learning_rate=0.05), tmp_path / "short")
    assert same(trained, up_to_there)
    assert not trained.network.training


def test_more_epochs_continue_a_finished_training(tmp_path: Path) -> None:
    whole = train(KNOWN, VALIDATION, a_recipe(epochs=4), tmp_path / "whole")
    train(KNOWN, VALIDATION, a_recipe(epochs=2), tmp_path / "parts")
    assert same(whole, train(KNOWN, VALIDATION, a_recipe(epochs=4), tmp_path / "parts"))


def test_training_stops_when_it_no_longer_gets_better(tmp_path: Path) -> None:
    trained = train(KNOWN, VALIDATION, a_recipe(epochs=50, patience=2, learning_rate=0.3), tmp_path)
    losses = [figures["validation_loss"] for figures in trained.record["epochs"]]
    assert len(losses) == losses.index(min(losses)) + 3 < 50


def test_progress_names_the_losses_and_the_cosine(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    train(KNOWN, VALIDATION, a_recipe(network="vae", latent_weight=2.0), tmp_path, progress=seen.append)
    assert [figures["epoch"] for figures in seen] == [1, 2, 3]
    last = seen[-1]
    for prefix in ("", "validation_"):
        parts = last[f"{prefix}reconstruction"] + 2 * last[f"{prefix}latent"] - 0.03 * last[f"{prefix}cosine"]
        assert last[f"{prefix}loss"] == pytest.approx(parts, abs=1e-6)


def test_the_constraint_makes_gradients_agree(tmp_path: Path) -> None:
    cosine = {}
    for alpha in (0.0, 0.03):
        recipe = a_recipe(epochs=8, constraint=Constraint(alpha=alpha))
        cosine[alpha] = train(KNOWN, VALIDATION, recipe, tmp_path / str(alpha)).record["epochs"][-1][
            "validation_cosine"
        ]
    assert cosine[0.03] > cosine[0.0] + 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "another seed"),
        ({"constraint": Constraint(alpha=0.1)}, "another constraint"),
        ({"network": "vae"}, "another network"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    train(KNOWN, VALIDATION, a_recipe(), tmp_path)
    with pytest.raises(ArtefactError, match=message):
        train(KNOWN, VALIDATION, a_recipe(**change), tmp_path)
    with pytest.raises(ArtefactError, match="other images"):
        train(pixels(40, seed=7), VALIDATION, a_recipe(), tmp_path)


def test_other_validation_images_are_refused_where_a_checkpoint_says_which_they_were(tmp_path: Path) -> None:
    train(KNOWN, VALIDATION, a_recipe(epochs=1), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(ArtefactError, match=r"other validation images.* give the same to continue"):
        train(KNOWN, pixels(10, seed=8), a_recipe(), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    # A checkpoint of before this was kept.
    with safetensors.safe_open(tmp_path / CHECKPOINT, "pt") as file:
        metadata = file.metadata()
    notes = json.loads(metadata["notes"])
    del notes["validation"]
    tensors = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    safetensors.torch.save_file(tensors, tmp_path / CHECKPOINT, metadata={**metadata, "notes": json.dumps(notes)})
    assert len(train(KNOWN, VALIDATION, a_recipe(), tmp_path).record["epochs"]) == 3


def test_a_checkpoint_without_its_reference_is_refused(tmp_path: Path) -> None:
    train(KNOWN, VALIDATION, a_recipe(), tmp_path)
    path = tmp_path / CHECKPOINT
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {name: value for name, value in safetensors.torch.load_file(path).items() if "reference" not in name}
    safetensors.torch.save_file(tensors, path, metadata=metadata)
    with pytest.raises(ArtefactError, match=r"lacks the reference gradient of 'decoder.0.weight'.* delete it"):
        train(KNOWN, VALIDATION, a_recipe(), tmp_path)


@pytest.mark.parametrize(
    ("known", "validation", "settings", "message"),
    [
        (pixels(10), VALIDATION, {}, "less than one batch of 16"),
        (KNOWN, pixels(4, size=9), {}, "make them alike"),
        (KNOWN.float(), VALIDATION, {}, "must be uint8"),
        (KNOWN, VALIDATION[:0], {}, "validation images must be"),
        (KNOWN, VALIDATION, {"learning_rate": 1e6}, "lower learning_rate"),
    ],
)
def test_images_and_settings_that_cannot_train_are_refused(
    known: Tensor, validation: Tensor, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    if "learning_rate" in settings:
        settings = {**settings, "network": "vae"}
    with pytest.raises(InputError, match=message):
        train(known, validation, a_recipe(**settings), tmp_path)


@pytest.mark.parametrize("network", ["cae", "vae"])
def test_a_large_seed_is_one_too(tmp_path: Path, network: str) -> None:
    recipe = a_recipe(epochs=1, network=network, seed=2**62 + 1)
    assert train(KNOWN, VALIDATION, recipe, tmp_path).record["recipe"]["seed"] == 2**62 + 1


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"patience": -1},
        {"latent_weight": -1.0},
        {"seed": -1},
        {"network": "gan"},
        {"epochs": 1.5},
        {"batch_size": True},
        {"seed": "3"},
    ],
)
def test_recipes_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        AnomalyRecipe(**settings)


def test_constant_images_train_without_nan(tmp_path: Path) -> None:
    black = torch.zeros_like(KNOWN)
    trained = train(black, black[:5], a_recipe(), tmp_path)
    assert all(bool(torch.isfinite(value).all()) for value in trained.network.state_dict().values())
    assert all(bool(torch.isfinite(value).all()) for value in trained.reference.values())
