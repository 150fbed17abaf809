"""The page of severities: ranked, self-contained, honest about grades."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradiometer.anomaly import GradCon, make_network, mean_gradient
from gradiometer.errors import InputError, NotFittedError
from gradiometer.reports import figures, severities
from gradiometer.severity import Preparation, SeverityModel, SeverityTable
from tests.severity.manifold import scans


@pytest.fixture(scope="module")
def model() -> SeverityModel:
    network = make_network("cae", 1, 16, seed=0).eval()
    known = scans(30, 0, 0).images.numpy()
    detector = GradCon(network, mean_gradient(network, known), score="reconstruction").fit(known)
    return SeverityModel(detector, Preparation(channels=1)).calibrate(scans(30, 0, 1), 0.05)


def test_the_most_severe_scan_comes_first(model: SeverityModel, tmp_path: Path) -> None:
    some = scans(6, 0, 2)
    some.images[4] = 255  # an untrained network makes everything grey
    some = replace(some, names=("a", "b", "c", "d", "<e>", "f"))
    path = severities.write(model, some, scans(20, 0, 3), tmp_path / "new" / "page.html", top=3)
    page = path.read_text(encoding="utf-8")
    names = re.findall(r'class="name">(\d+\. .*?)</p>', page)
    assert names[0] == "1. &lt;e&gt;"
    assert len(names) == 3
    assert page.count("data:image/png;base64,") == 9
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "Score against grade" not in page
    assert "above 96.8 % of healthy scans" in page  # 30 of 31


def test_grades_bring_a_figure_with_its_interval(model: SeverityModel) -> None:
    some = scans(12, 0, 2)
    some.images[6:] += np.uint8(60)
    table = replace(severities.table_of(model, some), grades=np.repeat([0, 3], 6))
    page = severities.render(model, some, some, table=table, top=2)
    assert re.search(r"AUROC of grade 2 and more \(6 of 12 scans\)</dt><dd>\d\.\d{3} \(", page)
    assert "grade 3, 6 scans" in page
    with pytest.raises(InputError, match="needs grades"):
        figures.by_grade(severities.table_of(model, some), prefix="grades")


def test_a_page_that_cannot_be_is_refused(model: SeverityModel) -> None:
    some = scans(3, 0, 2)
    with pytest.raises(InputError, match="top is 0"):
        severities.render(model, some, some, top=0)
    with pytest.raises(InputError, match="the table ranks 'x' high, and it is not among the scans"):
        severities.render(model, some, some, table=SeverityTable(("x",), np.array([9.0]), np.array([0.5])))
    fresh = SeverityModel(model.detector, model.preparation)
    table = severities.table_of(model, some)
    with pytest.raises(NotFittedError, match="call calibrate"):
        severities.render(fresh, some, some, table=table)
