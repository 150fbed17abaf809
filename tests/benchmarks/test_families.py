"""The table of several families when it is not complete yet."""

from __future__ import annotations

from gradiometer.benchmarks.families import arrange_families
from gradiometer.benchmarks.sides import FAMILY

FAMILIES = {"mnist": "data sets", "svhn": "data sets", "FGSM": "attacks"}


def test_a_detector_without_one_of_the_kinds_has_no_mean_over_it(record):
    made = [
        record(challenge=challenge, detector=detector, settings={FAMILY: family})
        for challenge, family in FAMILIES.items()
        for detector in ("Guard", "MSP", "Energy")
        if (challenge, detector) != ("svhn", "MSP")
    ]
    means, shorts = arrange_families(made)
    texts = {title: [cell.text for cell in cells] for title, cells in means.rows}
    assert [head.name for head in means.columns] == ["Guard", "MSP", "Energy"]
    for title in ("mean (3 kinds)", "mean of data sets (2 kinds)", "mean of families"):
        guard, msp, energy = texts[title]
        assert msp == "-"
        assert guard == energy != "-"
    assert "-" not in texts["mean of attacks (1 kind)"]
    assert {name for name, _ in shorts.rows} == {*FAMILIES}
