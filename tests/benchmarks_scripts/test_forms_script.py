"""What the exact forms of a convolution cost, and the constants that choose between them."""

import json

import pytest
from measuring import fitting

from gradiometer.gradients import kernels
from gradiometer.gradients.rules import costs


def test_figures_of_one_layer(script, tmp_path):
    before = fitting.constants()
    only = "16→16, 3×3"
    printed, _ = script("forms", "--only", only, "--batch", 2, "--repeats", 1, "--fit", "--output", tmp_path)

    document = json.loads((tmp_path / "forms.json").read_text())
    (row,) = document["rows"]
    forms = {"offsets", "groups", "gram"} | (set() if kernels.missing() else {"kernel", "winograd"})
    assert set(row["medians"]) == {"ordinary", *forms}
    assert row["chosen"] == min(row["predicted"], key=row["predicted"].get)
    assert row["regret"] == pytest.approx(row["medians"][row["chosen"]] / min(row["medians"][form] for form in forms))
    assert max(row["differences"].values()) < 1e-4
    for images in document["images"]:
        assert set(images["medians"]) == {"native", "winograd"}
        assert images["difference"] < 1e-5
    assert len(document["images"]) == (0 if kernels.missing() else 1)
    assert set(document["fit"]["after"]) == set(before) == set(document["constants"])
    assert fitting.constants() == before
    assert printed == (tmp_path / "forms.md").read_text()


def test_constants_are_found_again():
    tasks = [
        costs.Task(size * size, (size + 2) ** 2, inputs, outputs, 9, 1, copied=False)
        for size in (4, 8, 16, 32)
        for inputs in (16, 64)
        for outputs in (16, 128)
    ]
    true = {"KERNEL_PRODUCT": 1 / 20e9, "TILE_PRODUCT": 1 / 90e9, "POINT": 1 / 7e9, "TILE_ELEMENT": 1 / 5e9}
    with fitting.using(true):
        readings = [
            fitting.Reading(lambda form=form, task=task: costs.seconds(form, task), costs.seconds(form, task))
            for form in ("kernel", "winograd")
            for task in tasks
        ]
    found = fitting.fit(readings)
    assert found.error_after == pytest.approx(1.0, abs=0.01)
    assert found.error_before > 1.5
    for name, value in true.items():
        assert found.after[name] == pytest.approx(value, rel=0.05), name
