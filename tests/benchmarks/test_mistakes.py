"""Right against wrong predictions in a reduced setting, from files to records, against a plain pass of the model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from gradiometer import data, models
from gradiometer.benchmarks import matched, mistakes, protocols, records, tables, transfer
from gradiometer.benchmarks.comparison import Comparison
from gradiometer.benchmarks.evidence import PSEUDO_LABEL, Reader
from gradiometer.benchmarks.outcome import Outcome
from gradiometer.benchmarks.settings import Settings
from gradiometer.benchmarks.sides import Challenge
from gradiometer.challenges import corrupt, corruption
from gradiometer.data import Images, to_unit
from gradiometer.detectors import DecisionNetwork, ExGrad, GradTrust
from gradiometer.errors import InputError
from gradiometer.gradients import Gradiometer, PseudoLabel
from gradiometer.reports import page

FACTORY = """
import torch
from gradiometer.models import build

def untrained():
    torch.manual_seed(0)
    return build("digits-cnn", classes=10, channels=1, size=8)

def trained(steps=15):
    from sklearn.datasets import load_digits
    digits = load_digits()
    images = torch.from_numpy(digits.images[:150]).float()[:, None] * 15 / 255
    model, labels = untrained(), torch.from_numpy(digits.target[:150])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model
"""

NOISE = "gaussian_noise 1"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target[:, None]
    halves = {"train_images": images[:150], "train_labels": labels[:150], "test_images": images[150:550]}
    np.savez(folder / "known.npz", **halves, test_labels=labels[150:550])
    np.savez(folder / "silent.npz", train_images=images[:150], test_images=images[150:550])
    (folder / "net.py").write_text(FACTORY)
    return folder


def settings_of(root: Path, out: Path, **changes: object) -> mistakes.MistakeSettings:
    given = {
        "data_root": root,
        "model": f"{root / 'net.py'}:trained",
        "known": "known",
        "out": out,
        "size": 8,
        "channels": 1,
        "fit_images": 120,
        "draws": 20,
        "seeds": (0, 1),
        "types": ("gaussian_noise",),
        "levels": (1,),
    }
    return mistakes.MistakeSettings(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run_once(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[mistakes.MistakeSettings, Outcome, list]:
    told: list[tuple[str, int, int]] = []
    settings = settings_of(root, tmp_path_factory.mktemp("out"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=3))
        outcome = mistakes.run(settings, progress=lambda *step: told.append(step))
    return settings, outcome, told


def plainly(settings: mistakes.MistakeSettings, row: str) -> tuple[np.ndarray, np.ndarray]:
    """Outlier scores of the softmax probability and errors of the tested predictions, by a plain pass of the model."""
    held_out = data.load("known", root=settings.data_root, split="test", size=8, channels=1)
    images = held_out if row == mistakes.PLAIN else corrupt(held_out, corruption("gaussian_noise", 1), seed=0)
    model = models.load(settings.model)
    with torch.no_grad():
        logits = model(to_unit(images.images)).double()
    tested = protocols.split(held_out.groups.numpy(), seed=settings.seed).test
    errors = (logits.argmax(1) != held_out.labels).numpy()[tested]
    return -logits.softmax(1).max(1).values.numpy()[tested], errors


def test_right_and_wrong_predictions_are_those_of_the_model_in_true_proportion(run_once):
    settings, outcome, _ = run_once
    found = [record for record in outcome.records if record.kind == "detection"]
    assert {record.challenge for record in found} == {mistakes.PLAIN, NOISE}
    assert tuple(records.read(settings.out / "records.jsonl")) == outcome.records
    for row in (mistakes.PLAIN, NOISE):
        scores, errors = plainly(settings, row)
        [record] = [r for r in found if r.challenge == row and r.detector == "MSP"]
        assert (record.metrics.known, record.metrics.challenge) == ((~errors).sum(), errors.sum())
        assert (record.selective.right, record.selective.wrong) == ((~errors).sum(), errors.sum())
        assert record.metrics.auroc.value == pytest.approx(roc_auc_score(errors, scores), abs=1e-4)
        risks = np.cumsum(errors[np.argsort(scores)]) / np.arange(1, len(errors) + 1)
        assert record.selective.aurc.value == pytest.approx(risks.mean(), abs=1e-4)
        assert record.selective.accuracy.value == pytest.approx(1 - errors.mean())
        assert record.selective.accuracy_at_80.value == pytest.approx(1 - risks[len(errors) * 8 // 10 - 1], abs=1e-3)
        assert record.settings["rows: all"] == 400
        assert record.false_alarms is None  # thresholds are set on right and wrong predictions alike
        for other in found:
            if other.challenge == row:
                assert (other.metrics.known, other.metrics.challenge) == ((~errors).sum(), errors.sum())
                assert other.selective.accuracy == record.selective.accuracy
                assert other.selective.aurc.low <= other.selective.aurc.value <= other.selective.aurc.high
    assert all(record.selective is None for record in outcome.records if record.kind == "null")


def test_every_detector_of_the_tables_has_a_column_and_those_for_predictions_too(run_once):
    _, outcome, _ = run_once
    names = {record.column for record in outcome.records if record.challenge == NOISE}
    assert names == {f"{name} (known-only)" for name in mistakes.DETECTORS} | {
        f"{name} (matched)" for name in mistakes.MATCHED
    }
    assert {"GradTrust (known-only)", "ExGrad (known-only)", "Pseudo-label norms (matched)"} < names
    controls = {record.detector for record in outcome.records if record.protocol == "matched" and record.control}
    assert {"Confidence alone", "Control with confidence"} < controls
    assert {record.kind for record in outcome.records[: len(names)]} == {"null"}
    seeds = {len(r.by_seed) for r in outcome.records if r.detector == "Confidence alone" and r.kind == "detection"}
    assert seeds == {2}


def test_matched_detectors_learn_from_predictions_about_other_base_images(run_once):
    settings, outcome, _ = run_once
    _, errors = plainly(settings, mistakes.PLAIN)
    every = next(r for r in outcome.records if r.challenge == mistakes.PLAIN and r.column == "Purview (matched)")
    assert every.counts["seen_known"] + every.counts["seen_challenge"] == 400 - len(errors)
    assert every.counts["seen_challenge"] == every.settings["rows: wrong"] - errors.sum()
    assert every.counts["tested_base_images"] == errors.sum()


def test_images_are_read_once(run_once):
    _, _, told = run_once
    read = {what for what, _, _ in told if what.startswith("reading")}
    assert read == {"reading known (fit)", "reading known", "reading re-encoded known", f"reading {NOISE}"}


def test_every_column_is_compared_with_the_softmax_probability(run_once):
    _, outcome, _ = run_once
    found = {(e.first, e.challenge): e for e in outcome.differences if e.second == mistakes.BASELINE}
    columns = {record.column for record in outcome.records}
    assert {first for first, _ in found} == columns - {mistakes.BASELINE}
    assert {challenge for _, challenge in found} == {mistakes.PLAIN, NOISE, "mean"}
    cells = {(r.column, r.challenge): r for r in outcome.records if r.kind == "detection"}
    for (first, challenge), entry in found.items():
        rows = (mistakes.PLAIN, NOISE) if challenge == "mean" else (challenge,)
        for figure, of in (("auroc", lambda r: r.metrics.auroc.value), ("aurc", lambda r: r.selective.aurc.value)):
            expected = np.mean([of(cells[first, row]) - of(cells[mistakes.BASELINE, row]) for row in rows])
            value = getattr(entry, figure)
            assert value.value == pytest.approx(expected)
            assert value.low <= value.value <= value.high
        assert type(entry).from_json(entry.to_json()) == entry
    pairs = {(entry.first, entry.second) for entry in outcome.differences}
    assert ("Pseudo-label with confidence (matched)", "Control with confidence (matched)") in pairs
    assert len(outcome.differences) == 3 * len(pairs)  # no pair twice


def test_a_second_run_takes_what_is_finished(run_once, monkeypatch):
    settings, outcome, _ = run_once
    monkeypatch.setattr(Comparison, "learn", None)  # would fail if it were called
    again = mistakes.run(settings)
    assert again.records == outcome.records
    assert again.differences == outcome.differences


def test_tables_and_page_say_what_is_left_of_errors(run_once):
    _, outcome, _ = run_once
    found = {table.title.split(",")[0]: table for table in tables.all_tables(outcome.records)}
    record = next(r for r in outcome.records if r.challenge == NOISE and r.detector == "MSP")
    for title, value in (
        ("AURC", 1000 * record.selective.aurc.value),
        ("Excess AURC", 1000 * record.selective.excess_aurc.value),
        ("Accuracy of the 80 % that are kept", 100 * record.selective.accuracy_at_80.value),
    ):
        table = found[title]
        assert [name for name, _ in table.rows] == [mistakes.PLAIN, NOISE, "mean"]
        assert dict(table.rows)[NOISE][[head.name for head in table.columns].index("MSP")].text == f"{value:.1f}"
    for protocol in ("known-only", "matched"):
        row = dict(found["AURC"].rows)[mistakes.PLAIN]
        cells = [c for c, head in zip(row, found["AURC"].columns, strict=True) if head.notes[0] == protocol]
        assert {c.text for c in cells if c.best} == {f"{min(float(c.text) for c in cells):.1f}"}
    counts = dict(found["What the model gets wrong"].rows)[NOISE]
    assert [cell.text for cell in counts[:3]] == [
        "400",
        f"{record.settings['rows: wrong']:.0f}",
        f"{record.selective.right} / {record.selective.wrong}",
    ]
    text = tables.to_page(outcome.records, outcome.differences)
    assert "Paired differences of AURC in thousandths" in text
    html = page.render(outcome)
    assert "scores a wrong prediction above a right one" in html
    assert "What is left of errors" in html
    assert "Risk against coverage of MSP (known-only), Guard (known-only), Purview (matched)" in html


@pytest.mark.usefixtures("run_once")
def test_a_detector_that_learnt_one_row_is_tested_on_the_other(root, tmp_path, monkeypatch):
    monkeypatch.setattr(matched, "DecisionNetwork", partial(DecisionNetwork, epochs=3))
    asked = settings_of(root, tmp_path, seeds=(0,), detectors=("MSP", "Guard"))
    outcome = mistakes.run(replace(asked, protocols=("known-only", "matched", "transfer")))
    moved = {(r.trained_on, r.challenge): r for r in outcome.records if r.column == "Purview (transfer)"}
    assert {(mistakes.PLAIN, NOISE), (NOISE, mistakes.PLAIN)} < set(moved)
    assert all(record.selective is not None for record in moved.values())
    told = {record.detector for record in outcome.records if record.protocol == "transfer"}
    assert told == {*mistakes.TAUGHT, transfer.GUARDED}
    assert "synthetic" not in {record.trained_on for record in outcome.records}


def test_what_cannot_be_asked_is_refused(root, tmp_path):
    for number, (changes, words) in enumerate(
        (
            ({"known": "silent"}, "silent has no labels"),
            ({"model": f"{root / 'net.py'}:untrained"}, r"the model is right about \d+ of 400 images .* 60 are needed"),
            ({"limit": 100}, r"the model is wrong about \d+ of 100 images .* more images .limit."),
            ({"types": ("drizzle",)}, "unknown corruption 'drizzle'"),
        )
    ):
        with pytest.raises(InputError, match=words):
            mistakes.run(settings_of(root, tmp_path / str(number), **changes))


def test_a_row_with_too_few_right_predictions_is_left_out_and_said(root, tmp_path, monkeypatch):
    monkeypatch.setattr(mistakes, "FEWEST", 150)  # of 400 digits with so little contrast the model is right about 124
    asked = settings_of(root, tmp_path, types=("gaussian_noise", "contrast"), levels=(5,))
    outcome = mistakes.run(replace(asked, protocols=("known-only",), detectors=("MSP", "Guard")))
    rows = {record.challenge for record in outcome.records if record.kind == "detection"}
    assert rows == {mistakes.PLAIN, "gaussian_noise 5"}
    assert any(step.startswith("Left out: contrast 5: the model is right about") for step in outcome.steps)
    assert any(step.startswith("Images as they are: the model is wrong about ") for step in outcome.steps)


def test_columns_for_predictions_are_the_detectors_themselves(model: nn.Module, digits: dict[str, Images]):
    names = ("Guard", "Entropy", "ExGrad", "GradTrust", "Pseudo-label norm")
    settings = Settings("test", "untrained", "digits", draws=20, detectors=names, matched=())
    meter = Gradiometer(model, PseudoLabel())
    reader = Reader(model, direct={PSEUDO_LABEL: lambda images: meter.squared_norms(images).values})
    held_out = digits["held_out"]
    comparison = Comparison(reader, settings, digits["fit"], held_out)
    inputs = next(held_out.batches(len(held_out)))
    norms = []
    for image in inputs:
        logits = model(image[None])
        loss = F.cross_entropy(logits, logits.argmax(1))
        gradients = torch.autograd.grad(loss, tuple(model.parameters()))
        norms.append(sum(float(gradient.double().square().sum()) for gradient in gradients))
    with torch.no_grad():
        logits = model(inputs).double().numpy()
    expected = {
        "Entropy": entropy(softmax(logits, axis=1), axis=1),
        "ExGrad": ExGrad(model).predict(held_out).numpy(),
        "GradTrust": GradTrust(model).predict(held_out).numpy(),
        "Pseudo-label norm": np.array(norms),
    }
    found = {column.detector: column.known for column in comparison.columns}
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, rtol=1e-3, err_msg=name)
    blind = replace(settings, detectors=("Guard", "Pseudo-label norm"))
    with pytest.raises(InputError, match="Pseudo-label norm needs the reading 'Pseudo-label norms'"):
        Comparison(Reader(model, direct={}), blind, digits["fit"], held_out)


def test_right_predictions_stand_beside_wrong_ones_and_no_base_image_is_torn(filled):
    wrong = np.random.default_rng(0).random(len(filled.held_out)) < 0.3
    row = Challenge("row", filled.held_out, True, wrong=wrong)
    sides = filled.comparison.sides(row)
    assert sides.mistakes
    tested = [set(side.groups[side.split.test].tolist()) for side in (sides.known, sides.challenge)]
    split, groups = filled.comparison.split, filled.held_out.groups.numpy()
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == set(groups[split.test].tolist())
    np.testing.assert_array_equal(
        sides.challenge.tested.logits, filled.comparison.known.logits[split.test][wrong[split.test]]
    )
    assert filled.comparison.tested(row).tolist() == split.test[wrong[split.test]].tolist()
    assert sides.known.digest != sides.challenge.digest


def test_a_record_without_figures_of_predictions_reads_and_writes_as_before(record, run_once):
    before = record()
    assert "selective" not in json.loads(before.to_json())
    after = next(r for r in run_once[1].records if r.selective is not None)
    assert records.Record.from_json(after.to_json()) == after
    entries = json.loads(after.to_json())
    assert entries["schema"] == records.SCHEMA
    del entries["selective"]
    assert records.Record.from_json(json.dumps(entries)) == replace(after, selective=None)
