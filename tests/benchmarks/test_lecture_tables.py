"""Attacks, corruptions and null tests in a reduced setting, from files to records."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from gradiometer.benchmarks import attacks, corruptions, matched, null, ood, records, suite
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.evidence import Reader
from gradiometer.benchmarks.families import arrange_families, shortfalls
from gradiometer.benchmarks.loading import Loader, TableSettings
from gradiometer.benchmarks.settings import Settings
from gradiometer.data import Images
from gradiometer.detectors import DecisionNetwork
from gradiometer.errors import InputError

needs_foolbox = pytest.mark.skipif(importlib.util.find_spec("foolbox") is None, reason="needs the extra `attacks`")

FACTORY = """
import torch
from gradiometer.models import build

def net():
    torch.manual_seed(0)
    return build("digits-cnn", classes=10, channels=1, size=8)

def trained():
    from sklearn.datasets import load_digits
    digits = load_digits()
    images = torch.from_numpy(digits.images[:150]).float()[:, None] * 15 / 255
    model, labels = net(), torch.from_numpy(digits.target[:150])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings of a small table on a network that was never trained, and decision networks that learn little, fast."""
    monkeypatch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=3))
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target[:, None]
    np.savez(
        tmp_path / "known.npz",
        train_images=images[:150],
        train_labels=labels[:150],
        test_images=images[150:550],
        test_labels=labels[150:550],
    )
    np.savez(tmp_path / "turned.npz", test_images=images[600:800, ::-1].copy())
    (tmp_path / "net.py").write_text(FACTORY)
    return {
        "data_root": tmp_path,
        "model": f"{tmp_path / 'net.py'}:net",
        "known": "known",
        "out": tmp_path / "out",
        "size": 8,
        "channels": 1,
        "fit_images": 120,
        "draws": 20,
        "seeds": (0,),
    }


@needs_foolbox
def test_attacks_stand_beside_noise_and_only_rows_count_that_say_something(given):
    given["model"] = str(given["model"]).replace(":net", ":trained")
    outcome = attacks.run(attacks.AttackSettings(**given, attacks=("carlini_wagner", "negative"), attack_batch=400))
    kept = records.read(outcome_path := Path(str(given["out"])) / "records.jsonl")
    assert tuple(kept) == outcome.records
    assert outcome_path.parent.joinpath("attacked").is_dir()
    found = {record.challenge: record for record in kept if record.column == "Mahalanobis P+FE (matched)"}
    names = ("C&W", "Semantic (negative)")
    assert set(found) == {"re-encoded known", *names, *(name + attacks.UNFILTERED for name in names)}
    for name in names:
        record, every = found[name], found[f"{name}, all rows"]
        facts = record.settings
        assert facts["rows: kept"] <= min(facts["rows: clean right"], facts["rows: noisy right"])
        assert facts["success rate"] == pytest.approx(facts["rows: attacked wrong"] / 400)
        # Known are originals and noisy images of the same rows: twice as many as attacked ones.
        assert record.metrics.known == 2 * record.metrics.challenge <= facts["rows: kept"] + 40
        assert every.metrics.challenge == every.metrics.known == 200
        assert facts["noise deviation"] <= attacks.MOST_NOISE + 1e-6
    assert '"confidence": 2.0' in found["C&W"].settings["attack carlini_wagner"]
    moved = {(record.trained_on, record.challenge) for record in kept if record.protocol == "transfer"}
    assert {names, names[::-1], ("synthetic", "C&W")} <= moved
    assert not any(name.endswith(attacks.UNFILTERED) for pair in moved for name in pair)


@needs_foolbox
def test_an_attack_that_leaves_too_few_rows_is_shown_with_all_of_them(given):
    """The network was never trained, so it is hardly ever right about an original."""
    settings = attacks.AttackSettings(**given, attacks=("fgsm",), unfiltered=False, input_step=False)
    outcome = attacks.run(settings)
    assert {record.challenge for record in outcome.records if record.kind == "detection"} == {"FGSM, all rows"}
    assert any(step.startswith("FGSM: wrong on") and "rows count" in step for step in outcome.steps)


def test_corruptions_at_every_level(given):
    settings = corruptions.CorruptionSettings(**given, types=("Noise", "Haze"), levels=(1, 5), transfer_level=5)
    outcome = corruptions.run(settings)
    found = {record.challenge for record in outcome.records if record.kind == "detection"}
    assert found == {"Noise 1", "Noise 5", "Haze 1", "Haze 5"}
    assert {r.detector for r in outcome.records if r.protocol == "matched"} == set(corruptions.MATCHED)
    noise = {r.challenge: r.metrics.auroc.value for r in outcome.records if r.column == "Purview (matched)"}
    assert noise["Noise 5"] > noise["Noise 1"]
    assert {r.trained_on for r in outcome.records if r.protocol == "transfer"} == {
        "Noise 5",
        "Haze 5",
        "synthetic",
        "all others",
    }
    for wrong, words in (({"reading": "imagenet"}, "no reading"), ({"types": ("Rain",)}, "no corruption 'Rain'")):
        with pytest.raises(InputError, match=words):
            corruptions.run(corruptions.CorruptionSettings(**given, **wrong))


@needs_foolbox
def test_the_suite_counts_every_kind_once_and_every_family_once(given):
    given["model"] = str(given["model"]).replace(":net", ":trained")
    del given["seeds"]
    detectors = ("MSP", "Mahalanobis", "Control", "Guard", "Guard with a step")
    outcome = suite.run(
        suite.SuiteSettings(
            **given,
            challenges=("turned",),
            attacks=("negative",),
            types=("gaussian_noise", "contrast"),
            levels=(1, 5),
            detectors=detectors,
        )
    )
    kinds = {
        "turned": "data sets",
        "Semantic (negative)": "attacks",
        **{f"{name} {level}": "corruptions" for name in ("gaussian_noise", "contrast") for level in (1, 5)},
    }
    tested = [record for record in outcome.records if record.kind == "detection"]
    assert {record.challenge: record.settings["family"] for record in tested} == kinds
    assert {record.column for record in tested} == {f"{name} (known-only)" for name in detectors}
    area = {(record.detector, record.challenge): record.metrics.auroc.value for record in tested}

    def mean(name: str, *names: str) -> float:
        return float(np.mean([area[name, kind] for kind in kinds if kinds[kind] in names]))

    families = ("data sets", "attacks", "corruptions")
    found = {(entry.second, entry.challenge): entry for entry in outcome.differences}
    for second in ("MSP", "Mahalanobis"):
        rows = {name: entry for (column, name), entry in found.items() if column == f"{second} (known-only)"}
        assert list(rows)[:6] == list(kinds)
        expected = {
            "mean": mean("Guard", *families) - mean(second, *families),
            **{f"mean of {name}": mean("Guard", name) - mean(second, name) for name in families},
            "mean of families": np.mean([mean("Guard", name) - mean(second, name) for name in families]),
        }
        assert {name: rows[name].auroc.value for name in list(rows)[6:]} == pytest.approx(expected)
        assert all(entry.auroc.low <= entry.auroc.value <= entry.auroc.high for entry in rows.values())
        assert [rows[name].challenges for name in expected] == [6, 1, 1, 4, 6]

    behind = shortfalls(outcome.records)
    assert [entry.challenge for entry in behind] == sorted(kinds, key=lambda kind: -gap(area, kind))
    for entry in behind:
        assert entry.gap == pytest.approx(gap(area, entry.challenge))
        assert entry.baseline in ("MSP (known-only)", "Mahalanobis (known-only)")
    means, shorts = arrange_families(outcome.records)
    assert [name for name, _ in means.rows] == [
        "mean (6 kinds)",
        "mean of data sets (1 kind)",
        "mean of attacks (1 kind)",
        "mean of corruptions (4 kinds)",
        "mean of families",
    ]
    assert means.rows[0][1][3].text == f"{100 * mean('Guard', *families):.1f}"
    assert len(shorts.rows) == 6
    assert arrange_families([record for record in outcome.records if record.kind == "null"]) == []


@needs_foolbox
def test_what_cannot_be_a_challenge_is_left_out_and_said(given):
    """Grey images have no colours to change, and the known data are no challenge to themselves."""
    settings = suite.SuiteSettings(
        **given,
        challenges=("known", "turned"),
        attacks=("negative", "colour_shift"),
        types=("contrast", "saturate"),
        detectors=("MSP", "Guard"),
    )
    outcome = suite.run(settings)
    kinds = {record.challenge.removesuffix(attacks.UNFILTERED) for record in outcome.records if record.kind != "null"}
    assert kinds == {"turned", "Semantic (negative)", "contrast 3"}
    assert set(outcome.steps) >= {
        "Left out known: it is the known data.",
        "Left out Semantic (colour shift): the images are grey.",
        "Left out saturate 3: the images are grey.",
    }
    for wrong, words in (
        ({"challenges": ("known",)}, "known is the known data and cannot be its own challenge"),
        ({"types": ("saturate",)}, "saturate 3 would change colours alone, and the images are grey"),
    ):
        with pytest.raises(InputError, match=words):
            suite.run(replace(settings, out=settings.out / "other", **wrong))


def gap(area: dict[tuple[str, str], float], kind: str) -> float:
    """How far the best of the two baselines is ahead of Guard."""
    return max(area["MSP", kind], area["Mahalanobis", kind]) - area["Guard", kind]


def test_the_null_test_of_every_set_passes_where_nothing_leaks(given):
    found = null.run(null.NullSettings(**given, challenges=("turned",)))
    assert {record.challenge for record in found} == {"re-encoded known", "turned, re-encoded"}
    assert {record.kind for record in found} == {"null"}
    assert all(0.5 in record.metrics.auroc for record in found)
    assert tuple(records.read(Path(str(given["out"])) / "records.jsonl")) == found


def test_a_leaky_split_makes_the_null_test_fail(model, digits):
    """Neighbours are fitted on images that are tested as known: these are their own nearest neighbours."""
    held_out = digits["held_out"]
    settings = Settings("test", "untrained", "digits", draws=100, detectors=("KNN", "Control", "Guard"), matched=())
    sound = Comparison(Reader(model, direct={}), settings, digits["fit"], held_out)
    assert len(sound.null(lambda images: Images.of(images.images.clone()))) == 3
    # The fit is given the first half of what the test calls known, under the same roof as the training images.
    from gradiometer.benchmarks import protocols

    first, _ = protocols.halves(np.arange(len(held_out)), held_out.groups.numpy(), seed=0)
    leaky = Comparison(Reader(model, direct={}), settings, held_out.select(first), held_out)
    with pytest.raises(InputError, match=r"null test of .* on re-encoded known failed"):
        leaky.null(lambda images: Images.of(images.images.clone()))


def test_a_known_set_without_splits_is_divided_by_class_and_base_image(given):
    root = Path(str(given["data_root"]))
    with np.load(root / "known.npz") as arrays:
        np.savez(root / "whole.npz", test_images=arrays["test_images"], test_labels=arrays["test_labels"])
    fit, held_out = Loader(root, 8, 1).known("whole", 10_000, None)
    assert len(fit) + len(held_out) == 400
    assert len(fit) == pytest.approx(240, abs=10)
    assert not set(fit.groups.tolist()) & set(held_out.groups.tolist())
    assert len(Loader(root, 8, 1).known("whole", 50, 30)[0]) == 50


def test_detectors_can_be_fitted_on_images_that_the_model_has_not_seen(given):
    """The known images that are tested stay the same, and so do the challenges; only what is fitted on is another."""
    asked = given | {"limit": 200, "protocols": ("known-only",), "challenges": ("turned",)}
    asked["detectors"] = ("MSP", "Guard")
    outs = [Path(str(given["out"])) / name for name in ("seen", "unseen")]
    first, second = (
        ood.run(ood.OodSettings(**asked | {"out": out, "fit_unseen": number == 1})) for number, out in enumerate(outs)
    )
    seen, unseen = (
        {record.detector: record for record in outcome.records if record.challenge == "turned"}
        for outcome in (first, second)
    )
    for name in ("MSP", "Guard"):
        digests = seen[name].data_sha256, unseen[name].data_sha256
        assert digests[0]["known"] == digests[1]["known"]
        assert digests[0]["challenge"] == digests[1]["challenge"]
        assert digests[0]["fit"] != digests[1]["fit"]
    assert seen["MSP"].metrics == unseen["MSP"].metrics
    assert seen["Guard"].metrics != unseen["Guard"].metrics
    assert "fit_unseen" not in seen["MSP"].settings
    assert unseen["MSP"].settings["fit_unseen"] is True
    assert "Fitted the known-only detectors on 120 other test images of known." in second.steps

    root = Path(str(given["data_root"]))
    load = Loader(root, 8, 1)
    held_out = load("known", "test", 200)
    fit = load.unseen("known", 10_000, held_out)
    assert len(fit) == 200
    assert not set(fit.groups.tolist()) & set(held_out.groups.tolist())
    for name, kept, words in (("known", 400, "lower the limit"), ("turned", 10, "no training split")):
        with pytest.raises(InputError, match=words):
            load.unseen(name, 100, load(name, "test", kept))
    with pytest.raises(InputError, match="give a limit"):
        TableSettings(data_root=root, fit_unseen=True)


def test_wrong_protocols_are_named(tmp_path):
    with pytest.raises(InputError, match="no protocol 'oracle'"):
        TableSettings(data_root=tmp_path, protocols=("oracle",))
    with pytest.raises(InputError, match="no seed"):
        TableSettings(data_root=tmp_path, seeds=())
