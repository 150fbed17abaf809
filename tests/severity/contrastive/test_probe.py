"""Linear probes: heads at their optimum, and splits that share no patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from gradiometer.benchmarks import probes
from gradiometer.data import Cohort, Images
from gradiometer.data.ordinal import Words
from gradiometer.errors import ArtefactError, InputError
from gradiometer.severity.contrastive import features_of, probe


class Pixels(nn.Module):
    """The first five pixels of an image as its features."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 5)."""
        return self.scale * images.flatten(1)[:, :5]


def cohort(count: int = 120, patients: int | None = 30, seed: int = 0, first: int = 0) -> Cohort:
    """Images whose first two pixels decide a finding and a grade, with some of both missing."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)
    fluid = (pixels[:, 0, 0, 0] + rng.normal(0, 40, count) > 128).astype(float)
    grade = np.digitize(pixels[:, 0, 0, 1] + rng.normal(0, 30, count), [85, 170]).astype(float)
    fluid[::10] = np.nan
    images = Images.of(pixels)
    if patients is None:
        return Cohort(images, {"fluid": fluid, "grade": grade})
    names = [f"p{first + row * patients // count}" for row in range(count)]
    grouped = Cohort.of(images, names)
    return Cohort(grouped.images, {"fluid": fluid, "grade": grade}, grouped.patients)


def test_a_head_is_the_logistic_regression_of_its_features() -> None:
    train, test = cohort(), cohort(seed=1, first=100)
    found = probe(Pixels(), train, test, ["fluid"], strengths=[0.1]).readings[0]
    known = ~np.isnan(train.column("fluid"))
    features = train.images.images.flatten(1)[:, :5].double().numpy() / 255
    scaler = StandardScaler().fit(features[known])
    head = LogisticRegression(C=0.1, max_iter=2000).fit(scaler.transform(features[known]), train.column("fluid")[known])
    asked = test.images.images.flatten(1)[:, :5].double().numpy()[found.rows] / 255
    np.testing.assert_allclose(found.shares, head.predict_proba(scaler.transform(asked)), atol=1e-5)
    assert found.train == known.sum() == 108
    np.testing.assert_array_equal(found.truth, test.column("fluid")[found.rows])


def test_the_encoder_is_left_as_found() -> None:
    encoder = nn.Sequential(Pixels(), nn.BatchNorm1d(5), nn.Dropout()).train()
    encoder[1].eval()  # frozen by whoever trains the rest
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features_of(encoder, cohort().images.images)
    assert [module.training for module in encoder] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_a_grade_is_read_by_classes_and_by_threshold() -> None:
    result = probe(Pixels(), cohort(), cohort(seed=1, first=100), ["grade", "grade>=2"])
    grade, threshold = result.readings
    assert grade.shares.shape == (120, 3)
    assert grade.values == (0.0, 1.0, 2.0)
    assert threshold.shares.shape == (120, 2)
    np.testing.assert_array_equal(threshold.truth, grade.truth == 2)
    assert (grade.predicted == grade.truth).mean() > 0.6


def test_joint_heads_use_the_images_whose_values_are_all_known() -> None:
    train, test = cohort(), cohort(seed=1, first=100)
    train.columns["grade"][1::10] = np.nan
    joint = probe(Pixels(), train, test, ["fluid", "grade>=2"], heads="joint")
    separate = probe(Pixels(), train, test, ["fluid", "grade>=2"])
    assert [reading.train for reading in joint.readings] == [96, 96]
    assert [reading.train for reading in separate.readings] == [108, 108]
    # Tests are on the same images either way.
    np.testing.assert_array_equal(joint.readings[0].rows, separate.readings[0].rows)


def test_a_patient_on_both_sides_is_refused_and_labelled_when_asked_for() -> None:
    train, test = cohort(), cohort(seed=1, first=28)
    with pytest.raises(InputError, match=r"2 of 30 test patients are in the training images too \(p28, p29\)"):
        probe(Pixels(), train, test, ["fluid"])
    result = probe(Pixels(), train, test, ["fluid"], allow_shared=True)
    assert result.shared == ("p28", "p29")
    assert not result.patientwise
    record = made(result)[0]
    assert record.split == "with 2 patients on both sides"


def test_unknown_patients_are_not_called_patientwise() -> None:
    result = probe(Pixels(), cohort(patients=None), cohort(patients=None, seed=1), ["fluid"])
    assert not result.patientwise
    assert made(result)[0].split == "by image, patients not known"


def test_patients_are_the_unit_of_the_intervals() -> None:
    result = probe(Pixels(), cohort(), cohort(seed=1, first=100), ["fluid"])
    record = made(result)[0]
    assert record.patientwise
    assert record.split == "patient-wise"
    assert record.counts["test patients"] == 30


def test_heads_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="heads is 'Joint'; give one of separate, joint"):
        probe(Pixels(), cohort(), cohort(seed=1, first=100), ["grade"], heads="Joint")  # type: ignore[arg-type]


def test_targets_that_say_nothing_are_refused() -> None:
    train, test = cohort(), cohort(seed=1, first=100)
    train.columns["one"] = np.ones(120)
    test.columns["one"] = np.ones(120)
    with pytest.raises(InputError, match="only the value 1 of 'one'"):
        probe(Pixels(), train, test, ["one"])
    with pytest.raises(InputError, match="no column 'x'"):
        probe(Pixels(), train, test, ["x"])
    with pytest.raises(InputError, match="no target"):
        probe(Pixels(), train, test, [])
    with pytest.raises(InputError, match="no number behind >="):
        probe(Pixels(), train, test, ["grade>=high"])


def test_a_threshold_on_text_is_refused() -> None:
    train, test = cohort(), cohort(seed=1, first=100)
    words = Words(("high", "low", "none"), "'low' in the row of 'a.png' of t.csv is no number", "correct it")
    train, test = (replace(part, words={"grade": words}) for part in (train, test))
    with pytest.raises(InputError, match=r"'grade' has no order \(high = 0, .*'low' in the row of 'a\.png'"):
        probe(Pixels(), train, test, ["grade>=2"])
    assert len(probe(Pixels(), train, test, ["grade"]).readings[0].values) == 3


def test_texts_are_the_same_on_both_sides_whatever_their_numbers() -> None:
    train, test = cohort(), cohort(seed=1, first=100)
    grades = test.column("grade")
    kept = test.select(grades != 0)
    kept.columns["grade"][:] -= 1  # a folder without the first class begins to number at the second
    first, second = Words(("a", "b", "c"), "", ""), Words(("b", "c"), "", "")
    found = probe(
        Pixels(), replace(train, words={"grade": first}), replace(kept, words={"grade": second}), ["grade"]
    ).readings[0]
    np.testing.assert_array_equal(found.truth, grades[grades != 0])
    with pytest.raises(InputError, match="text in the test images and numbers in the others"):
        probe(Pixels(), train, replace(kept, words={"grade": second}), ["grade"])


def test_the_same_images_on_both_sides_are_refused_where_patients_are_not_known() -> None:
    train, test = cohort(patients=None), cohort(patients=None, seed=1)
    with pytest.raises(InputError, match=r"120 of 120 test images are among the training images too \(the first is "):
        probe(Pixels(), train, train, ["fluid"])
    test.images.images[:3] = train.images.images[5:8]
    with pytest.raises(InputError, match="3 of 120 test images"):
        probe(Pixels(), train, test, ["fluid"])
    record = made(probe(Pixels(), train, test, ["fluid"], allow_shared=True))[0]
    assert record.split == "by image, patients not known, 3 test images in the training too"
    test.images.images[1:3] = cohort(patients=None, seed=2).images.images[:2]
    with pytest.warns(UserWarning, match="1 of 120 test images"):
        assert probe(Pixels(), train, test, ["fluid"]).doubles == 1


def made(result: object) -> list[probes.ProbeRecord]:
    return probes.measured(
        [result], data="d", encoder="pixels", seeds=[0], weights=["0" * 64], data_sha256={"test": "x"}, draws=20
    )


class TestRecords:
    def test_records_are_read_back(self, tmp_path) -> None:
        result = probe(Pixels(), cohort(), cohort(seed=1, first=100), ["fluid", "grade"])
        records = made(result)
        assert "kappa" in records[1].figures
        assert "kappa" not in records[0].figures
        for record in records:
            probes.append(tmp_path / "r.jsonl", record)
        assert probes.read(tmp_path / "r.jsonl") == records
        with (tmp_path / "r.jsonl").open("a") as file:
            file.write('{"schema": 1}\n')
        with pytest.raises(ArtefactError, match="line 3 is no record of a probe"):
            probes.read(tmp_path / "r.jsonl")

    def test_differences_and_tables(self) -> None:
        train, test = cohort(), cohort(seed=1, first=100)
        worse = nn.Sequential(Pixels(), nn.Dropout(0.0))
        results = [probe(encoder, train, test, ["fluid", "grade"]) for encoder in (Pixels(), worse)]
        records = made(results[0])
        gaps = probes.compared(("a", results[:1]), ("b", results[1:]), records, draws=20)
        assert all(value.value == 0 for gap in gaps for value in gap.figures.values())
        page = probes.to_page([*records, *gaps])
        assert "| encoder | fluid | grade |" in page
        assert "| a - b | +0.0 (+0.0 to +0.0) | +0.0 (+0.0 to +0.0) |" in page
        assert "split patient-wise" in page
