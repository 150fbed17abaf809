"""The first table in a reduced setting, from files to records and page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from gradiometer.benchmarks import begun, columns, demo, gradcon, matched, ood, records, severity, tabling
from gradiometer.benchmarks.metrics import evaluate
from gradiometer.benchmarks.sides import Challenge
from gradiometer.detectors import GAIA, DecisionNetwork, GradPCA
from gradiometer.errors import InputError

FACTORY = """
import torch
from gradiometer.models import build

def net():
    torch.manual_seed(0)
    return build("digits-cnn", classes=10, channels=1, size=12)
"""


@pytest.fixture
def settings(tmp_path: Path) -> ood.OodSettings:
    images = (load_digits().images[:400] * 15).astype(np.uint8)
    labels = load_digits().target[:400, None]
    np.savez(
        tmp_path / "known.npz",
        train_images=images[:150],
        train_labels=labels[:150],
        test_images=images[150:],
        test_labels=labels[150:],
    )
    np.savez(tmp_path / "turned.npz", test_images=images[:80, ::-1].copy(), train_images=images[:1])
    colour = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3)).astype(np.uint8)
    np.savez(tmp_path / "speckles.npz", val_images=colour)
    (tmp_path / "net.py").write_text(FACTORY)
    return ood.OodSettings(
        data_root=tmp_path,
        model=f"{tmp_path / 'net.py'}:net",
        known="known",
        challenges=("turned", "speckles"),
        out=tmp_path / "out",
        size=12,
        channels=1,
        fit_images=120,
        draws=50,
    )


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision networks that learn little, fast."""
    monkeypatch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=5))


@pytest.mark.usefixtures("_quick")
def test_the_table_from_files_to_records(settings):
    told, steps = [], []
    outcome = ood.run(settings, progress=lambda *step: steps.append(step), finished=told.append)
    each = len(told[0])
    assert each == len(columns.ENTRIES) + len(matched.LEARNERS) - 1  # no step of the input was asked for
    # Two challenges and the known images as JPEG; then, for each of the two, five detectors on four trainings.
    assert [len(results) for results in told] == [each, each, each, 20, 20]
    assert ("reading turned", 80, 80) in steps
    assert ("fitting Purview to turned", 1, 1) in steps
    kept = records.read(settings.out / "records.jsonl")
    assert tuple(kept) == outcome.records
    assert [record.kind for record in kept] == ["null"] * each + ["detection"] * 2 * each + ["handling"] * each + [
        "detection"
    ] * 40
    assert {record.challenge for record in kept[each:]} == {"turned", "speckles", ood.JPEG_CONTROL}
    assert {record.counts["fit"] for record in kept if record.protocol == "known-only"} == {120}
    assert {record.metrics.challenge for record in kept[each : 2 * each]} == {40}
    assert len({len(record.by_seed) for record in kept if record.column == "Purview (matched)"}) == 2
    moved = [record for record in kept if record.protocol == "transfer"]
    assert {record.trained_on for record in moved} == {"turned", "speckles", "synthetic", "all others"}
    assert len({(r.detector, r.trained_on, r.challenge) for r in moved}) == len(moved)
    own = next(r for r in moved if r.trained_on == r.challenge == "turned" and r.detector == "Purview")
    assert own.metrics == next(r for r in kept if r.challenge == "turned" and r.column == "Purview (matched)").metrics
    others = next(r for r in moved if r.trained_on == "all others" and r.challenge == "turned" and not r.control)
    single = next(r for r in moved if r.trained_on == "speckles" and r.challenge == "turned" and not r.control)
    assert others.metrics == single.metrics or others.by_seed != single.by_seed
    assert kept[0].settings["size"] == 12
    assert [entry.name for entry in outcome.examples] == ["known (known)", "turned", "speckles", ood.JPEG_CONTROL]
    assert outcome.examples[2].images.shape[1:] == (1, 12, 12)
    # A second run takes the readings of the first and comes to the same figures.
    (settings.out / "records.jsonl").unlink()
    again = ood.run(ood.OodSettings(**{**vars(settings), "challenges": ("turned",), "jpeg": None}))
    assert [record.metrics for record in again.records] == [record.metrics for record in outcome.records[: 2 * each]]
    assert ood.JPEG_CONTROL not in {entry.challenge for entry in outcome.differences}
    assert {(entry.first, entry.challenge) for entry in outcome.differences} >= {
        ("Guard (known-only)", "mean"),
        ("Purview (matched)", "speckles"),
    }


@pytest.mark.usefixtures("_quick")
def test_a_limit_holds_for_every_test_set(settings, tmp_path):
    limited = ood.OodSettings(
        **{**vars(settings), "limit": 80, "challenges": ("turned",), "jpeg": None, "keep_readings": False}
    )
    outcome = ood.run(limited)
    assert {record.metrics.challenge for record in outcome.records if record.kind == "detection"} == {40}
    assert not (limited.out / "readings").exists()


def test_scores_of_gradients_come_beside_their_controls_when_asked_for(settings):
    names = [entry.name for entry in columns.GRADIENTS]
    assert names == ["GAIA-Z", "GAIA-Z control", "GAIA-A", "GAIA-A control", "GradPCA", "GradPCA control"]
    assert columns.readers(("Guard", "MSP")) == {}
    small = {**vars(settings), "challenges": ("turned",), "protocols": ("known-only",), "jpeg": None}
    (settings.data_root / "normalised.py").write_text(FACTORY.replace("digits-cnn", "resnet20"))
    small["model"] = f"{settings.data_root / 'normalised.py'}:net"
    asked = ood.OodSettings(**{**small, "detectors": ("Guard", *names)})
    outcome = ood.run(asked)
    compared = {(entry.first, entry.second) for entry in outcome.differences}
    assert compared >= {(f"{name} (known-only)", f"{name} control (known-only)") for name in names[::2]}
    kit = ood.Kit.of(asked)
    challenge = Challenge("turned", kit.load("turned", None, None))
    comparison = tabling.compare(asked, kit, tabling.Contents(name="ood", title="", challenges=[challenge]))
    _, found = comparison.measure(challenge)
    for name, detector in {
        "GAIA-Z": GAIA(kit.model),
        "GAIA-Z control": GAIA(kit.model, gradients=False),
        "GAIA-A": GAIA(kit.model, "channel-average"),
        "GAIA-A control": GAIA(kit.model, "channel-average", gradients=False),
        "GradPCA": GradPCA(kit.model),
        # The sum of the logits and the last layer: every row of its gradient is the features.
        "GradPCA control": GradPCA(kit.model, "fc.*", value="sum"),
    }.items():
        expected = detector.fit(kit.fit).predict(challenge.images).numpy()[comparison.tested(challenge)]
        [scores] = [scores for scores in found if scores.detector == name]
        # Batches are divided in another way here, and a unit that is all but zero may be counted on one side only.
        np.testing.assert_allclose(scores.challenging, expected, rtol=1e-3, atol=1e-5)
        assert scores.control == name.endswith("control")
        [record] = [r for r in outcome.records if (r.detector, r.kind) == (name, "detection")]
        assert record.metrics.auroc.value == evaluate(scores.known, scores.challenging, draws=0).auroc.value


def test_records_of_a_folder_do_not_vanish(settings, monkeypatch):
    first = ood.OodSettings(
        **{**vars(settings), "protocols": ("known-only",), "jpeg": None, "detectors": ("Guard", "MSP")}
    )
    ood.run(first)
    path = first.out / "records.jsonl"
    kept = path.read_bytes()
    loaded = []
    monkeypatch.setattr(ood.Kit, "of", lambda _: loaded.append(1))
    for change, words in (
        ({"challenges": ("speckles",)}, "challenges lacks turned"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"detectors": ("Guard", "Energy")}, "detectors lacks MSP"),
        ({"limit": 50, "draws": 60}, "draws was 50, now 60; limit was None, now 50"),
    ):
        with pytest.raises(InputError, match=f"{path} holds results that this run would drop .{words}.*another folder"):
            ood.run(ood.OodSettings(**{**vars(first), **change}))
    assert not loaded
    assert path.read_bytes() == kept
    monkeypatch.undo()
    # More is no loss, nor is another way to the same figures.
    np.savez(
        settings.data_root / "third.npz", test_images=np.load(settings.data_root / "turned.npz")["test_images"][:60]
    )
    more = {"challenges": ("third", "turned", "speckles"), "detectors": ("Guard", "MSP", "Energy"), "batch_size": 64}
    outcome = ood.run(ood.OodSettings(**{**vars(first), **more}))
    assert {(record.challenge, record.detector) for record in outcome.records} >= {
        (record.challenge, record.detector) for record in map(records.Record.from_json, kept.decode().splitlines())
    }
    with pytest.raises(InputError, match="challenges lacks third"):
        ood.run(first)


def test_a_run_without_a_record_stands_in_nobodys_way(settings):
    small = {**vars(settings), "challenges": ("turned",), "protocols": ("known-only",), "jpeg": None}
    small["detectors"] = ("Guard",)
    path = begun.begin(ood.OodSettings(**{**small, "seed": 1}))
    assert path.read_bytes() == b""
    ood.run(ood.OodSettings(**small))
    (settings.out / "settings.json").unlink()  # folders of earlier versions have none
    ood.run(ood.OodSettings(**{**small, "seed": 1}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("draws", 0, "draws is 0, and no interval"),
        ("draws", 1, "draws is 1, and no interval"),
        ("challenges", ("turned", "speckles", "turned"), "challenges has turned twice"),
        ("seeds", (0, 1, 1), "seeds has 1 twice"),
        ("protocols", ("matched", "matched"), "protocols has matched twice"),
        ("size", 0, "size is 0; give a whole number of 1 or more"),
        ("channels", 0, "channels must be 1 .grey. or 3"),
    ],
)
def test_settings_that_would_mislead_are_refused(settings, name, value, words):
    with pytest.raises(InputError, match=words):
        ood.OodSettings(**{**vars(settings), name: value})


def test_no_benchmark_draws_intervals_without_width(settings):
    for make in (
        lambda: demo.DemoSettings(draws=0),
        lambda: gradcon.GradConSettings(data_root=settings.data_root, draws=0),
        lambda: severity.SeveritySettings(data_root=settings.data_root, draws=0),
    ):
        with pytest.raises(InputError, match="draws is 0"):
            make()


def test_a_missing_data_set_is_named_before_anything_is_computed(settings):
    with pytest.raises(InputError, match="elsewhere"):
        ood.run(ood.OodSettings(**{**vars(settings), "challenges": ("turned", "elsewhere")}))
    assert not settings.out.exists()


def test_a_model_that_does_not_say_what_it_takes_needs_size_and_channels(settings):
    with pytest.raises(InputError, match="give size and channels"):
        ood.run(ood.OodSettings(**{**vars(settings), "size": None}))


def test_the_shipped_model_on_real_data(data_root, tmp_path):
    from gradiometer import models

    if "resnet20-cifar10" not in models.names():
        pytest.skip("the shipped weights are not part of this checkout")
    outcome = ood.run(
        ood.OodSettings(data_root=data_root, out=tmp_path, challenges=("mnist",), fit_images=300, limit=300, draws=100)
    )
    found = {record.column: record.metrics.auroc for record in outcome.records if record.kind == "detection"}
    assert found["Purview (matched)"].low > 0.9
    assert found["Purview (known-only)"].low > 0.8
