"""Tables hold what the records say, in every form."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
import rich.console

from gradiometer.benchmarks import metrics, rendering, tables
from gradiometer.benchmarks.metrics import Interval, Metrics
from gradiometer.errors import InputError


def _metrics(value: float) -> Metrics:
    interval = Interval(value, value - 0.01, value + 0.01)
    return Metrics(**dict.fromkeys(metrics.FIGURES, interval), known=10, challenge=10)


@pytest.fixture
def found(record):
    values = {
        ("mnist", "MSP", "known-only"): 0.8,
        ("mnist", "Purview", "known-only"): 0.9123,
        ("mnist", "Purview", "matched"): 0.99,
        ("a|b<c>", "MSP", "known-only"): 0.85,
        ("a|b<c>", "Purview", "known-only"): 0.8,
        ("a|b<c>", "Purview", "matched"): 0.97,
    }
    made = [
        record(challenge=challenge, detector=detector, protocol=protocol, metrics=_metrics(value))
        for (challenge, detector, protocol), value in values.items()
    ]
    return [*made, record(challenge="mnist", detector="Control", control=True, metrics=_metrics(0.7))]


def test_rows_columns_mean_and_best(found):
    table = tables.arrange(found)
    assert [(head.name, head.notes[0]) for head in table.columns] == [
        ("MSP", "known-only"),
        ("Purview", "known-only"),
        ("Purview", "matched"),
        ("Control", "known-only"),
    ]
    rows = dict(table.rows)
    assert [str(cell) for cell in rows["mnist"]] == [
        "80.0 (79.0–81.0)",
        "91.2 (90.2–92.2)",
        "99.0 (98.0–100)",
        "70.0 (69.0–71.0)",
    ]
    # The best is told for each protocol: what saw the challenge does not compete with what did not.
    assert [cell.best for cell in rows["mnist"]] == [False, True, True, False]
    assert [cell.best for cell in rows["a|b<c>"]] == [True, False, True, False]
    # A column with a gap has no mean.
    assert [cell.text for cell in rows["mean"]] == ["82.5", "85.6", "98.0", "-"]


def test_a_later_record_replaces_an_earlier_one(found, record):
    again = record(challenge="mnist", detector="MSP", metrics=_metrics(0.5))
    assert dict(tables.arrange([*found, again]).rows)["mnist"][0].text == "50.0"


def test_markdown_has_one_line_a_row_and_as_many_cells_everywhere(found):
    lines = rendering.to_markdown(tables.arrange(found)).strip().splitlines()
    assert len(lines) == 2 + 3
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}
    assert "**91.2** (90.2–92.2)" in lines[2]


def test_html_is_well_formed_and_escaped(found):
    root = ElementTree.fromstring(rendering.to_html(tables.arrange(found)).replace("<br>", "<br/>"))  # noqa: S314
    assert root.find("caption") is not None
    heads = root.findall("thead/tr/th")
    assert len(heads) == 5
    assert all(head.get("scope") == "col" for head in heads)
    rows = root.findall("tbody/tr")
    assert [row.find("th").get("scope") for row in rows] == ["row"] * 3
    assert rows[1].find("th").text == "a|b<c>"
    assert "control" in rows[0].findall("td")[3].get("class")


def test_the_terminal_shows_figures_rates_and_null_test(found, record):
    console = rich.console.Console(file=io.StringIO(), width=160)
    tables.show([*found, record(kind="null", challenge="re-encoded known")], console)
    text = console.file.getvalue()
    for title in tables.TITLES.values():
        assert title in text
    assert "99.0" in text
    assert "22 of 400" in text
    assert "re-encoded" in text


def test_the_markdown_page_holds_all_tables(found, record):
    text = tables.to_page([*found, record(kind="null", challenge="re-encoded known")])
    assert text.count("| --- |") == len(tables.TITLES) + 2
    assert "Null test: AUROC" in text
    assert len(tables.all_tables([record(false_alarms=None)], all_figures=False)) == 1


def test_false_alarm_rows_name_the_challenge_of_a_matched_detector(found):
    table = tables.arrange_false_alarms(found)
    names = [name for name, _ in table.rows]
    assert "Purview (known-only)" in names
    assert "Purview (matched), mnist" in names
    cells = [cell.text for cell in dict(table.rows)["Purview (known-only)"]]
    assert cells[:2] == ["5", "5.50"]
    assert cells[2].endswith("inside")
    assert cells[4:] == ["22 of 400", "400"]


def test_what_is_not_there_cannot_be_shown(record):
    with pytest.raises(InputError, match="figure must be"):
        tables.arrange([record()], "accuracy")
    with pytest.raises(InputError, match="kind 'null'"):
        tables.arrange([record()], kind="null")
    with pytest.raises(InputError, match="false-alarm"):
        tables.arrange_false_alarms([record(false_alarms=None)])


def test_many_detectors_are_shown_one_in_each_row(record):
    names = [f"detector {number}" for number in range(12)]
    found = [record(detector=name, challenge=challenge) for challenge in ("mnist", "scenes") for name in names]
    table = tables.arrange(found)
    exchanged = tables.turned(table)
    assert [head.name for head in exchanged.columns] == ["mnist", "scenes", "mean"]
    assert [name for name, _ in exchanged.rows] == [f"{name}, known-only" for name in names]
    assert exchanged.rows[3][1][1] is table.rows[1][1][3]
    console = rich.console.Console(file=io.StringIO(), width=80)
    tables.show(found, console, all_figures=False)
    printed = console.file.getvalue()
    assert any("detector 7, known-only" in line for line in printed.splitlines())
