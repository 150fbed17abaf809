"""The page is one well-formed file that asks nobody for anything, and says what the records say."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gradiometer.benchmarks import tables
from gradiometer.errors import DependencyError, InputError
from gradiometer.reports import page
from tests.reports.conftest import make_outcome

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Reader(HTMLParser):
    """Checks the nesting and collects elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture
def read(outcome) -> Reader:
    reader = Reader()
    reader.feed(page.render(outcome))
    reader.close()
    return reader


def test_the_page_is_well_formed(read, outcome):
    assert page.render(outcome).startswith('<!DOCTYPE html>\n<html lang="en">')
    assert read.open == []
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attributes.get(name, "").split()) <= set(ids)
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_nothing_comes_from_elsewhere(read, outcome):
    text = page.render(outcome)
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe|javascript:", text)
    for tag, attributes in read.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:40])
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#")


def test_figures_and_tables_speak_to_those_who_do_not_see_them(read):
    images = [attributes for tag, attributes in read.elements if tag == "img"]
    assert len(images) == 9
    assert images[0]["alt"] == "digits (known), image 1: flagged, p = 0.01"
    svgs = [attributes for tag, attributes in read.elements if tag == "svg"]
    assert len(svgs) == 2 + 2 + 2  # histograms, layers, and both at a glance
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in svgs)
    heads = [attributes for tag, attributes in read.elements if tag == "th"]
    assert heads
    assert all(head.get("scope") in ("row", "col") for head in heads)
    assert len([1 for tag, _ in read.elements if tag == "caption"]) == 1 + 4 + 1 + 1
    assert [attributes["lang"] for tag, attributes in read.elements if tag == "html"] == ["en"]


def test_the_words_of_others_are_escaped(outcome):
    text = page.render(outcome)
    assert "What about &lt;these&gt;?" in text
    assert "a &lt;b&gt; &amp; c" in text
    assert "<b>" not in text


def test_figures_come_from_the_records(read, outcome):
    shown = " ".join(read.texts)
    for figure in tables.TITLES:
        for _, cells in tables.arrange(outcome.records, figure).rows:
            assert all(cell.text in shown for cell in cells)
    assert outcome.records[0].weights_sha256 in shown
    assert shown.count("schema") >= len(outcome.records)


def test_findings_are_computed(outcome):
    first, second = page.findings(outcome)
    judged = [
        record.metrics.auroc.value
        for record in outcome.records
        if (record.detector, record.protocol, record.kind) == ("Purview", "known-only", "detection")
    ]
    found = re.search(r"in (\d+\.\d) % of all pairs, on average over 2 challenges", first)
    assert float(found[1]) == pytest.approx(100 * sum(judged) / len(judged), abs=0.051)
    assert re.search(r"For comparison: (MSP|Control) \d+\.\d %, (MSP|Control) \d+\.\d %\.", first)
    assert "of 400 that it had never seen it flagged 5.5 %" in second


def test_the_head_is_about_the_judge_also_where_it_is_forward_only(outcome):
    named = {"Purview": "Guard"}
    others = tuple(
        replace(record, detector=name)
        for record in outcome.records
        if record.kind == "detection" and record.detector == "MSP"
        for name in ("Energy", "KNN")
    )
    made = tuple(
        replace(record, detector="Guard", control=True) if record.detector in named else record
        for record in outcome.records
    )
    first, second = page.findings(replace(outcome, records=(*made, *others), judge="Guard (known-only)"))
    assert first.startswith("Guard, which has seen known images only")
    assert "The best of 4 others like it: " in first
    assert first.count("%") == 1 + 3
    assert "of 400 that it had never seen" in second


def test_the_number_of_known_images_is_that_of_the_detections(outcome):
    null = [
        replace(record, metrics=replace(record.metrics, known=7)) for record in outcome.records if record.kind == "null"
    ]
    rest = [record for record in outcome.records if record.kind != "null"]
    facts = dict(page._facts([*null, *rest]))
    assert facts["known images tested"] == str(rest[0].metrics.known)


def test_many_tensors_get_one_figure_and_colour_images_are_shown(tmp_path):
    written = page.write(make_outcome(tensors=30, channels=3), tmp_path / "deep" / "page.html")
    assert written.read_text().count("<svg") == 2 + 1 + 2


def test_the_same_outcome_gives_the_same_page(outcome):
    assert page.render(outcome) == page.render(make_outcome())


def test_parts_that_are_not_there_are_left_out(outcome):
    records = tuple(replace(r, false_alarms=None) for r in outcome.records if r.kind == "detection")
    text = page.render(replace(outcome, records=records))
    assert "false-alarm rate hold" not in text
    assert "null test" not in text
    with pytest.raises(InputError, match="at least one record"):
        page.render(replace(outcome, records=()))


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_extra(outcome, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=rf"{package}.*gradiometer\[report\]"):
        page.render(outcome)
