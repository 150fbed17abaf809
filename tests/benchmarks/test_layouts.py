"""Tables in the layout of the published ones, transfer, differences, and LaTeX."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from gradiometer.benchmarks import layouts, published, records, rendering, tables
from gradiometer.benchmarks.differences import MEAN, Difference
from gradiometer.benchmarks.metrics import Interval


def test_published_figures_are_found_by_row_and_network(record):
    attacked = [
        record(benchmark="attacks", model="runs/densenet-bc-40-12", challenge=name)
        for name in ("PGD", "Semantic (negative)", "PGD, all rows")
    ]
    rows = published.beside(attacked)
    assert rows["PGD"]["Purview"] == pytest.approx(0.9677)
    assert rows["Semantic (negative)"]["Mahalanobis FE"] == pytest.approx(0.6798)
    assert published.beside([record(benchmark="attacks", challenge="PGD")])["PGD"]["Purview"] == pytest.approx(0.9582)
    signs = record(benchmark="corruptions", known="gtsrb", challenge="Haze 1", settings={"reading": "cure"})
    assert published.beside([signs]) == {
        "Haze 1": {"Mahalanobis": pytest.approx(0.6651), "Purview": pytest.approx(0.9583)}
    }
    assert published.beside([replace(signs, known="cifar10")]) == {}
    assert published.beside([replace(signs, settings={"reading": "cifar10c"})]) == {}
    reverse = record(benchmark="ood", known="street_chars", challenge="cifar10")
    assert published.beside([reverse])["cifar10"]["Purview"] == pytest.approx(0.9979)
    assert published.beside([record(benchmark="demo")]) == {}
    assert published.beside([record(challenge="mnist")]) == {}


def test_the_attack_table_names_what_is_published(record):
    found = [
        record(benchmark="attacks", challenge="FGSM", detector="MSP"),
        record(benchmark="attacks", challenge="FGSM", detector="Purview", protocol="matched"),
    ]
    [table] = layouts.beside_published(found)
    assert [(head.name, head.notes[0]) for head in table.columns][-3:] == [
        ("Purview", "published"),
        ("MSP", "known-only"),
        ("Purview", "matched"),
    ]
    cells = dict(table.rows)["FGSM"]
    assert cells[6].text == "93.5"
    assert cells[7].interval
    assert not cells[6].interval
    assert "published" in rendering.to_latex(table)


def test_corruptions_have_a_column_for_each_level(record):
    found = [
        record(
            benchmark="corruptions",
            challenge=f"Noise {level}",
            detector="Purview",
            protocol="matched",
            settings={"reading": "cifar10c"},
        )
        for level in (1, 2, 5)
    ]
    [table] = layouts.beside_published(found)
    assert [head.name for head in table.columns] == 2 * [f"level {level}" for level in range(1, 6)]
    texts = [cell.text for cell in dict(table.rows)["Noise"]]
    assert texts[2] == texts[3] == texts[7] == "-"
    assert texts[5] == "100.0"  # 99.95 is published
    assert all(text != "-" for text in texts[:2])


def test_transfer_is_a_matrix_and_its_mean_leaves_out_what_was_trained_on(record):
    found = [
        record(
            challenge=name,
            protocol="transfer",
            trained_on=source,
            metrics=record().metrics.__class__(**{**vars(record().metrics), "auroc": Interval(value, value, value)}),
        )
        for source, name, value in (
            ("a", "a", 1.0),
            ("a", "b", 0.4),
            ("b", "a", 0.6),
            ("b", "b", 0.9),
            ("synthetic", "a", 0.7),
            ("synthetic", "b", 0.8),
        )
    ]
    [matrix] = layouts.transfers(found)
    rows = {name: [cell.text for cell in cells] for name, cells in matrix.rows}
    assert rows == {
        "a": ["100.0", "40.0", "40.0"],
        "b": ["60.0", "90.0", "60.0"],
        "synthetic": ["70.0", "80.0", "75.0"],
    }
    # They are no columns of the main table.
    table = tables.arrange([record(), *found])
    assert len(table.columns) == 1


def test_differences_begin_with_the_mean(record):
    made = [
        Difference("ood", "net", "digits", name, 1, "A", "B", Interval(0.012, -0.001, 0.02), 0, 50, 0.95, "ab")
        for name in ("mnist", MEAN)
    ]
    table = layouts.arrange_differences(made)
    assert [head.name for head in table.columns] == [MEAN, "mnist"]
    assert [str(cell) for cell in table.rows[0][1]] == 2 * ["+1.2 (-0.1 to +2.0)"]
    assert "A minus B" in tables.to_page([record()], made)
    assert "\\toprule" in tables.to_page([record()], made, latex=True)


def test_what_an_attack_did_is_said_once(record):
    facts = {"success rate": 0.5, "noise deviation": 0.02, "rows: all": 100.0, "rows: kept": 60.0}
    facts |= {"rows: clean right": 90.0, "rows: noisy right": 80.0, "rows: attacked wrong": 50.0}
    [table] = layouts.attack_facts([record(settings=facts), record(settings=facts, detector="MSP")])
    [(name, cells)] = table.rows
    assert name == "mnist"
    assert [cell.text for cell in cells] == ["50.0", "5.10", "100", "90", "80", "50", "60", "40 / 30"]
    assert layouts.attack_facts([record()]) == []


def test_latex_escapes_what_it_would_take_for_commands(record):
    table = rendering.Table(
        "50 % & more", "a_b", (rendering.Head("C&W", ("known-only",)),), (("x#1", (rendering.Cell("9", "8–9", True),)),)
    )
    text = rendering.to_latex(table)
    for part in (r"50 \% \& more", r"a\_b", r"C\&W; known-only", r"x\#1", r"\textbf{9}", r"{\tiny 8--9}"):
        assert part in text


def test_packed_records_are_read(tmp_path, record):
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(gzip.compress((record(by_seed={"0": 0.5, "1": 0.6}).to_json() + "\n").encode()))
    assert records.read(path) == [record(by_seed={"0": 0.5, "1": 0.6})]
