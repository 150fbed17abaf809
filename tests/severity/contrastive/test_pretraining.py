"""Encoders, views and pre-training: stems, seeds, and resuming to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gradiometer.data import Cohort, Images
from gradiometer.errors import ArtefactError, InputError
from gradiometer.severity.contrastive import (
    Augmentation,
    ContrastiveRecipe,
    Encoder,
    EncoderSettings,
    Views,
    load_encoder,
    make_encoder,
    pretrain,
    pretrain_to_file,
    settings_for,
)
from gradiometer.severity.contrastive.encoders import Projection

SMALL = EncoderSettings("resnet8", channels=1, stem="small")
RECIPE = ContrastiveRecipe(epochs=2, batch_size=8, learning_rate=0.05)


def pictures(count: int = 20, channels: int = 1, size: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def labels(count: int = 20) -> dict[str, Tensor]:
    return {"severity": torch.arange(count) // 5, "CST": torch.arange(count) % 3 - 1}


class TestEncoders:
    @pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("resnet50", 2048)])
    def test_the_large_stem_halves_once_and_pools_not(self, name: str, width: int) -> None:
        encoder = make_encoder(EncoderSettings(name, channels=1), seed=0).eval()
        stem = encoder.network.conv1
        assert (stem.kernel_size, stem.stride, stem.in_channels) == ((7, 7), (2, 2), 1)
        sizes = []
        encoder.network.layer4.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
        assert encoder(torch.rand(1, 1, 64, 64)).shape == (1, width)
        assert sizes == [4]  # 64 -> 32 at the stem -> 16 -> 8 -> 4; a pool would make it 2

    def test_the_small_stem_keeps_the_size(self) -> None:
        encoder = make_encoder(EncoderSettings("resnet18", channels=3, stem="small"), seed=0).eval()
        sizes = []
        encoder.network.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
        encoder(torch.rand(1, 3, 28, 28))
        assert sizes == [28]

    def test_the_projection_is_the_published_one(self) -> None:
        layers = [(layer.in_features, layer.out_features) for layer in Projection(512) if hasattr(layer, "in_features")]
        assert layers == [(512, 512), (512, 128)]

    def test_weights_are_those_of_the_seed_and_the_global_state_is_left_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        first, again, other = (make_encoder(SMALL, seed) for seed in (1, 1, 2))
        assert torch.equal(torch.rand(1), expected)
        assert torch.equal(first.network.conv1.weight, again.network.conv1.weight)
        assert not torch.equal(first.network.conv1.weight, other.network.conv1.weight)

    def test_names_that_are_not_there_are_refused(self) -> None:
        with pytest.raises(InputError, match="no encoder 'resnet19'"):
            EncoderSettings("resnet19")
        with pytest.raises(InputError, match="no stem 'huge'"):
            EncoderSettings("resnet8", stem="huge")


class TestViews:
    def test_views_belong_to_the_seed_and_the_global_state_is_left_alone(self) -> None:
        views = Views(Augmentation(), (12, 12))
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        first, again, other = (views.pair(pictures(4, 3), seed) for seed in (0, 0, 1))
        assert torch.equal(torch.rand(1), expected)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.min() >= 0
        assert first.max() <= 1

    def test_each_image_gets_its_own_crop(self) -> None:
        """The same picture in two rows: a transform of the whole batch would cut both alike."""
        pairs = Views(Augmentation(jitter=0, grey_share=0), (12, 12)).pair(pictures(1).repeat(2, 1, 1, 1), 0)
        assert not torch.equal(pairs[0], pairs[1])

    def test_nothing_to_differ_by_gives_the_image(self) -> None:
        plain = Augmentation(smallest_crop=1, mirror=0, jitter=0, grey_share=0)
        pairs = Views(plain, (12, 12)).pair(pictures(3), 0)
        assert torch.equal(pairs[:, 0], pairs[:, 1])
        assert torch.equal(pairs[:, 0], pictures(3).float() / 255)

    def test_grey_images_take_all_of_it(self) -> None:
        assert Views(Augmentation(jitter_share=1, grey_share=1), (12, 12)).pair(pictures(2), 0).shape == (
            2,
            2,
            1,
            12,
            12,
        )

    def test_shares_that_are_none_are_refused(self) -> None:
        with pytest.raises(InputError, match="smallest_crop is 0"):
            Augmentation(smallest_crop=0)
        with pytest.raises(InputError, match="mirror is 2"):
            Augmentation(mirror=2)


class Stop(Exception):
    """An interruption."""


def interrupt_at(step: int) -> object:
    def steps(done: int, total: int) -> None:
        if done == step:
            raise Stop

    return steps


class TestPretraining:
    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_an_interrupted_training_ends_with_the_same_bits(self, tmp_path: Path, at: int) -> None:
        """Two steps an epoch: interrupted after the first, at the end of the epoch, and within the second."""
        whole = pretrain(pictures(), labels(), SMALL, RECIPE, tmp_path / "whole", checkpoint_steps=1)
        with pytest.raises(Stop):
            pretrain(pictures(), labels(), SMALL, RECIPE, tmp_path / "cut", checkpoint_steps=1, steps=interrupt_at(at))
        cut = pretrain(pictures(), labels(), SMALL, RECIPE, tmp_path / "cut", checkpoint_steps=1)
        for name, value in whole.encoder.state_dict().items():
            assert torch.equal(value, cut.encoder.state_dict()[name]), name
        assert [entry["loss"] for entry in whole.record["epochs"]] == [entry["loss"] for entry in cut.record["epochs"]]

    def test_more_epochs_continue_a_constant_schedule(self, tmp_path: Path) -> None:
        short = replace(RECIPE, epochs=1)
        pretrain(pictures(), None, SMALL, short, tmp_path / "on")
        on = pretrain(pictures(), None, SMALL, RECIPE, tmp_path / "on")
        at_once = pretrain(pictures(), None, SMALL, RECIPE, tmp_path / "once")
        assert torch.equal(on.encoder.network.conv1.weight, at_once.encoder.network.conv1.weight)

    def test_another_training_in_the_folder_is_not_continued(self, tmp_path: Path) -> None:
        pretrain(pictures(), labels(), SMALL, replace(RECIPE, epochs=1), tmp_path)
        other = {**labels(), "severity": torch.arange(20) // 4}
        with pytest.raises(ArtefactError, match="other images"):
            pretrain(pictures(), other, SMALL, RECIPE, tmp_path)
        with pytest.raises(ArtefactError, match="another temperature"):
            pretrain(pictures(), labels(), SMALL, replace(RECIPE, temperature=0.2), tmp_path)
        with pytest.raises(ArtefactError, match="another columns"):
            pretrain(pictures(), {"bins": labels()["severity"], "CST": labels()["CST"]}, SMALL, RECIPE, tmp_path)

    def test_the_record_says_what_was_learnt_from(self, tmp_path: Path) -> None:
        told: list[dict[str, float]] = []
        record = pretrain(pictures(), labels(), SMALL, RECIPE, tmp_path, progress=told.append).record
        assert record["columns"] == {
            "severity": {"labels": 4, "labelled": 20},
            "CST": {"labels": 2, "labelled": 13},
        }
        assert record["images"] == 20
        assert [entry["epoch"] for entry in told] == [1, 2]
        json.dumps(record)

    def test_labels_decide_what_is_near(self, tmp_path: Path) -> None:
        """Noise of two kinds: trained with their labels, features of one kind are nearer to each other."""
        rng = np.random.default_rng(0)
        kind = torch.arange(32) % 2
        spread = np.where(kind.numpy(), 50, 20)[:, None, None, None]
        images = torch.from_numpy(rng.normal(128, spread, (32, 1, 12, 12)).clip(0, 255).astype(np.uint8))
        recipe = ContrastiveRecipe(epochs=8, batch_size=16, learning_rate=0.05, temperature=0.2)

        def apart(encoder: Encoder) -> float:
            features = torch.nn.functional.normalize(encoder(images.float() / 255), dim=1).detach()
            similar = features @ features.T
            same = kind[:, None] == kind[None, :]
            return float(similar[same].mean() - similar[~same].mean())

        trained = pretrain(images, {"kind": kind}, SMALL, recipe, tmp_path).encoder
        assert apart(trained) > 2 * apart(make_encoder(SMALL, recipe.seed).eval())

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"a": torch.zeros(3, dtype=torch.long)}, r"must be int64 of shape \(20,\)"),
            ({"a": torch.full((20,), -1)}, "has no label at all"),
        ],
    )
    def test_labels_that_do_not_fit_are_named(self, tmp_path: Path, columns: dict[str, Tensor], message: str) -> None:
        with pytest.raises(InputError, match=message):
            pretrain(pictures(), columns, SMALL, RECIPE, tmp_path)

    def test_images_and_recipe_must_fit(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="less than one batch of 64"):
            pretrain(pictures(), None, SMALL, ContrastiveRecipe(), tmp_path)
        with pytest.raises(InputError, match=r"uint8 \(N, 1, height, width\)"):
            pretrain(pictures(20, 3), None, SMALL, RECIPE, tmp_path)
        with pytest.raises(InputError, match="2 weights for 1 columns"):
            pretrain(pictures(), None, SMALL, replace(RECIPE, weights=(1.0, 2.0)), tmp_path)
        with pytest.raises(InputError, match="batch_size is 1; give a whole number of 2 or more"):
            ContrastiveRecipe(batch_size=1)


class TestFile:
    def cohort(self) -> Cohort:
        columns = {name: column.double().numpy() for name, column in labels().items()}
        columns["CST"][columns["CST"] < 0] = np.nan
        return Cohort(Images.of(pictures()), columns, tuple(f"p{row // 4}" for row in range(20)))

    def test_a_file_gives_the_same_features(self, tmp_path: Path) -> None:
        settings = settings_for(pictures(), "resnet8")
        assert settings.stem == "small"
        trained = pretrain_to_file(self.cohort(), ["severity", "image"], tmp_path, settings, RECIPE)
        again = load_encoder(tmp_path)
        images = pictures(3).float() / 255
        assert torch.equal(trained.encoder(images), again.encoder(images))
        assert (again.size, again.columns, again.patients) == (
            (12, 12),
            ("severity", "image"),
            ("p0", "p1", "p2", "p3", "p4"),
        )
        assert again.training["epochs"] == 2

    def test_missing_values_are_missing_labels(self, tmp_path: Path) -> None:
        trained = pretrain_to_file(self.cohort(), ["CST"], tmp_path, SMALL, RECIPE)
        assert trained.record["columns"]["CST"] == {"labels": 2, "labelled": 13}

    def test_what_is_no_encoder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "encoder.safetensors").write_bytes(b"no")
        with pytest.raises(ArtefactError, match="truncated or no safetensors"):
            load_encoder(tmp_path)
        with pytest.raises(InputError, match="no column 'BCVA'"):
            pretrain_to_file(self.cohort(), ["BCVA"], tmp_path / "x", SMALL, RECIPE)
        with pytest.raises(InputError, match="named twice"):
            pretrain_to_file(self.cohort(), ["CST", "CST"], tmp_path / "x", SMALL, RECIPE)
