"""Tables in the documentation are what their records say."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from gradiometer.benchmarks import differences, records, severity
from gradiometer.benchmarks import tables as lecture
from gradiometer.benchmarks.gradcon import measures, tables

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def test_the_tables_of_the_documentation_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_tables.py"))
    for path in script["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert "<!-- table: " in page
        assert script["rendered"](page) == page, f"{path.name}: run docs/render_tables.py"


PACKED = sorted(str(path.parent.relative_to(RESULTS)) for path in RESULTS.rglob("records.jsonl.gz"))
GRADCON = [name for name in PACKED if name.startswith("gradcon")]


@pytest.mark.parametrize("folder", [name for name in PACKED if name not in GRADCON])
def test_the_tables_of_the_lecture_are_rendered_from_records(folder: str) -> None:
    found = records.read(RESULTS / folder / "records.jsonl.gz")
    path = RESULTS / folder / "differences.jsonl.gz"
    page = lecture.to_page(found, differences.read(path) if path.exists() else ())
    assert (RESULTS / folder / "tables.md").read_text(encoding="utf-8") == page


def test_the_cards_of_the_networks_are_rendered_from_training_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_models.py"))
    assert (RESULTS / "models" / "README.md").read_text(encoding="utf-8") == script["rendered"]()


def test_the_pages_of_the_suite_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "render_suite.py"))
    for name in script["ABOUT"]:
        assert (RESULTS / name / "README.md").read_text(encoding="utf-8") == script["rendered"](name)


@pytest.mark.parametrize("name", GRADCON)
def test_the_tables_of_gradcon_are_rendered_from_records(name: str) -> None:
    folder = RESULTS / name
    found = records.read(folder / "records.jsonl.gz")
    measured = measures.read(folder / "measures.jsonl") if (folder / "measures.jsonl").exists() else []
    page = tables.to_page(found, measured)
    assert (folder / "tables.md").read_text(encoding="utf-8") == page


def test_the_figure_of_gradcon_says_what_is_in_the_records() -> None:
    profiles = tables.profiles(records.read(RESULTS / "gradcon" / "records.jsonl.gz"))
    assert [*profiles] == [
        "published (cae+grad, 1000 epochs)",
        "cae+grad, 40 epochs",
        "cae+untrained, 0 epochs",
        "plain pixels",
    ]
    drawn = (RESULTS / "gradcon" / "classes.svg").read_text(encoding="utf-8")
    for name, values in profiles.items():
        assert f"{name}: {', '.join(f'{one} {value:.3f}' for one, value in values.items())}" in drawn


def test_the_tables_of_severity_are_rendered_from_records() -> None:
    folder = ROOT / "docs" / "results" / "severity"
    assert (folder / "tables.md").read_text(encoding="utf-8") == severity.render(folder)


def test_the_numbers_of_the_lecture_are_rendered_from_records() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_lecture.py"))
    for path in script["PAGES"]:
        page = path.read_text(encoding="utf-8")
        assert script["rendered"](page) == page, f"{path.name}: run docs/draw_lecture.py --numbers"


def test_no_number_of_the_lecture_is_typed() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_lecture.py"))
    page = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
    assert len(script["NUMBER"].findall(page)) > 40
    prose = script["NUMBER"].sub("", re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL))
    assert "<!--" not in prose, "a source without a number in front of it"
    assert re.findall(r"\d[\d.,]*\.\d+|\d+ %|\de-?\d", prose) == []


def test_every_figure_of_the_lecture_is_small_and_has_its_record_and_script() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "draw_lecture.py"))
    page = (ROOT / "docs" / "lecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"\(images/lecture/(\w+)\.svg\)", page)
    assert sorted(shown) == sorted(path.stem for path in script["FOLDER"].glob("*.svg"))
    for name in shown:
        assert (script["FOLDER"] / f"{name}.svg").stat().st_size < 150_000
        assert "environment" in json.loads((script["FOLDER"] / f"{name}.json").read_text(encoding="utf-8"))
    assert re.findall(r"literalinclude\} \.\./examples/(\w+)\.py", page) == list(script["SCRIPTS"])


def test_the_words_of_the_lecture_about_its_records_hold() -> None:
    """What the page and the README say without a number."""
    folder = ROOT / "docs" / "images" / "lecture"
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    shares = list(found["more_data"]["uncertain_share"]["prior"].values())
    assert shares == sorted(shares, reverse=True)
    numbers = found["two_uncertainties"]["numbers"]["epistemic"]
    assert numbers["empty"] > 1000 * numbers["clear"]
    auroc = found["activation_and_gradient"]["auroc"]
    for views in auroc.values():
        assert views["with"]["cosine"] > views["without"]["cosine"]
        assert views["without"]["reconstruction"] >= views["with"]["cosine"]
    higher = found["layer_profile"]["tensors_with_higher_median_for_letters"]
    assert higher == {"all ones, softmax": 0, "all ones, logits": 0, "predicted class": 10}
    share = found["information_and_uncertainty"]
    energy = share["share"]["with a bar"]["uncertainty"]
    assert energy["bar"] < share["area"]["bar"]
    assert energy["below"] > share["area"]["below"]
