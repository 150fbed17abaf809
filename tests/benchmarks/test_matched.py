"""Matched detectors on made-up readings, the store of finished cells, and paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gradiometer.benchmarks import differences
from gradiometer.benchmarks.cells import Cells
from gradiometer.benchmarks.columns import Fit
from gradiometer.benchmarks.differences import Difference
from gradiometer.benchmarks.evidence import INPUT_STEP, PSEUDO_LABEL, Evidence, join
from gradiometer.benchmarks.matched import LEARNERS, TRUST, Lesson, learners, wide_features
from gradiometer.benchmarks.outcome import Scores
from gradiometer.errors import ArtefactError, InputError


def make_evidence(count: int, shift: float = 0.0, seed: int = 0) -> Evidence:
    """Readings of a network of two layers with 6 and 4 channels, moved by a shift in everything."""
    generator = np.random.default_rng(seed)
    layers = tuple((generator.normal(size=(count, width)) + shift).astype(np.float32) for width in (6, 4))
    return Evidence(
        logits=layers[-1][:, :3],
        layers=layers,
        shares=(generator.uniform(size=(count, 6)).astype(np.float32),),
        norms=np.exp(generator.normal(size=(count, 7)) + shift),
        activations=np.exp(generator.normal(size=(count, 2)) + shift),
        changes=np.exp(generator.normal(size=(count, 5)) + shift),
        smoothed=layers[-1][:, 1:],
        parameters=tuple("abcdefg"),
        images_sha256=f"{count} {seed}",
        seconds=1.0,
        direct={
            INPUT_STEP: generator.normal(size=(count, 2)) + shift,
            PSEUDO_LABEL: np.exp(np.random.default_rng(seed + 100).normal(size=(count, 7)) + shift),
        },
    )


@pytest.fixture
def fit() -> Fit:
    labels = torch.arange(200) % 3
    return Fit(nn.Linear(4, 3), labels, np.arange(200), make_evidence(200, seed=1), 5, 0)


@pytest.mark.parametrize("learner", [*LEARNERS, *TRUST[:4]], ids=lambda learner: learner.name)
def test_every_learner_finds_what_it_was_shown_and_not_what_is_known(learner, fit):
    lesson = Lesson(make_evidence(120, seed=2), make_evidence(120, 1.5, seed=3), np.arange(120), np.arange(200, 320), 0)
    score = learner.learn(fit, lesson)
    known, challenge = score(make_evidence(200, seed=4)), score(make_evidence(200, 1.5, seed=5))
    assert known.shape == challenge.shape == (200,)
    assert np.mean(challenge[:, None] > known) > 0.8
    others = score(make_evidence(200, seed=6))
    assert abs(np.mean(others[:, None] > known) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("name", "blind"),
    [
        ("Pseudo-label norms", {"logits", "activations", "norms"}),
        ("Pseudo-label with confidence", {"norms"}),
        ("Control with confidence", {"norms", "direct"}),
        ("Purview with class", {"direct"}),
        ("Control with class", {"norms", "direct"}),
        ("Confidence alone", {"norms", "activations", "direct"}),
    ],
)
def test_what_learns_about_predictions_reads_this_and_no_more(name, blind, fit):
    """Other values of what it is blind for change no score; other values of all the rest do."""
    [learner] = [one for one in (*LEARNERS, *TRUST) if one.name == name]
    lesson = Lesson(make_evidence(60, seed=2), make_evidence(60, 1.5, seed=3), np.arange(60), np.arange(100, 160), 0)
    score = learner.learn(fit, lesson)
    here, other = make_evidence(30, seed=4), make_evidence(30, 0.7, seed=5)
    for reading in ("logits", "activations", "norms", "direct"):
        same = np.array_equal(score(here), score(replace(here, **{reading: getattr(other, reading)})))
        assert same == (reading in blind), reading


def test_the_wide_control_is_as_wide_as_purview_and_forward_only():
    evidence = make_evidence(10)
    wide = wide_features(evidence)
    assert wide.shape == evidence.statistics.shape
    assert (wide >= 0).all()
    np.testing.assert_array_equal(wide[:, :2], evidence.activations)
    np.testing.assert_allclose(wide[:, 2:6], np.square(evidence.features.astype(np.float64)))


def test_learners_that_need_a_reading_are_left_out_without_it():
    evidence = make_evidence(10)
    assert [entry.name for entry in learners(None, evidence)] == [entry.name for entry in LEARNERS]
    bare = Evidence(**{**vars(evidence), "direct": {}})
    assert "Mahalanobis P+FE" not in [entry.name for entry in learners(None, bare)]
    with pytest.raises(InputError, match="no matched detector 'Oracle'"):
        learners(("Oracle",), evidence)


def test_readings_are_joined_row_by_row():
    parts = [make_evidence(3, seed=1), make_evidence(4, seed=2)]
    joined = join(parts)
    assert len(joined) == 7
    np.testing.assert_array_equal(joined.select(np.arange(3, 7)).statistics, parts[1].statistics)
    np.testing.assert_array_equal(joined.features[:3], parts[0].features)
    assert joined.images_sha256 not in {part.images_sha256 for part in parts}


def test_finished_cells_come_back_and_broken_ones_do_not(tmp_path, record):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=5) for _ in range(4)]
    scores = Scores(
        "Purview", "transfer", False, "mnist", arrays[0], arrays[1], None, ((arrays[2], arrays[3]),), "fgsm"
    )
    made = [(record(protocol="transfer", trained_on="fgsm"), scores)]
    cells = Cells(tmp_path / "cells")
    assert cells.find(("mnist", "1")) is None
    cells.keep(("mnist", "1"), made)
    assert cells.find(("mnist", "2")) is None
    [(again, found)] = cells.find(("mnist", "1"))
    assert again == made[0][0]
    assert (found.detector, found.trained_on, found.threshold, found.control) == ("Purview", "fgsm", None, False)
    assert len(found.runs) == 2
    for one, other in zip(found.runs, scores.runs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    next((tmp_path / "cells").iterdir()).write_bytes(b"cut short")
    assert cells.find(("mnist", "1")) is None
    nothing = Cells(None)
    nothing.keep(("mnist", "1"), made)
    assert nothing.find(("mnist", "1")) is None


def test_differences_compare_guard_with_the_others_and_gradients_with_controls(two_sides, tmp_path):
    known, challenge = two_sides
    columns = {
        ("Guard", "known-only"): 1.0,
        ("MSP", "known-only"): 0.5,
        ("Guard with gradients", "known-only"): 1.0,
        ("Purview", "matched"): 2.0,
        ("Control (features)", "matched"): 1.0,
    }
    scores = [
        Scores(name, protocol, False, place, known, challenge + gain, None)
        for place in ("a", "b")
        for (name, protocol), gain in columns.items()
    ]
    scores.append(Scores("Purview", "transfer", False, "a", -known, -challenge, None, (), "b"))
    about = {"benchmark": "ood", "model": "net", "known": "digits", "weights_sha256": "ab"}
    found = differences.differences(scores, about, draws=50)
    pairs = {(entry.first, entry.second) for entry in found}
    assert pairs == {
        ("Guard with gradients (known-only)", "Guard (known-only)"),
        ("Purview (matched)", "Control (features) (matched)"),
        ("Guard (known-only)", "MSP (known-only)"),
    }
    mean = {entry.first: entry for entry in found if entry.challenge == differences.MEAN}
    assert mean["Guard with gradients (known-only)"].auroc.value == 0
    assert mean["Guard (known-only)"].auroc.low > 0
    assert mean["Purview (matched)"].challenges == 2
    path = tmp_path / "differences.jsonl"
    differences.write(path, found)
    assert differences.read(path) == found
    with pytest.raises(ArtefactError, match="not a paired difference"):
        Difference.from_json('{"first": 1}')
    with pytest.raises(InputError, match="no file of differences"):
        differences.read(tmp_path / "elsewhere")
