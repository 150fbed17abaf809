"""One self-contained HTML page of scans by severity, with maps of where, and scores against grades when known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradiometer import given
from gradiometer.benchmarks.grades import Agreement, agreement
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.rendering import Table, to_html
from gradiometer.data import Images
from gradiometer.errors import InputError, NotFittedError
from gradiometer.reports import figures
from gradiometer.reports.page import environment, put
from gradiometer.reports.suspects import KNOWN, heats_of
from gradiometer.severity import SeverityModel, SeverityTable


@dataclass(frozen=True, eq=False)
class Shown:
    """One scan on the page.

    Attributes:
        rank: Its place from the most severe one, which is 1.
        name: Where it is from.
        facts: What is known about it, in a few words.
        unusual: Whether it is beyond what the false-alarm rate leaves to healthy scans.
        image: Data URI of the scan.
        reconstruction: Data URI of the map of the reconstruction error.
        gradient: Data URI of the map of the gradient's length.
    """

    rank: int
    name: str
    facts: str
    unusual: bool
    image: str
    reconstruction: str
    gradient: str


def write(
    model: SeverityModel,
    scans: Images,
    healthy: Images,
    path: str | Path,
    *,
    table: SeverityTable | None = None,
    top: int = 24,
    tables: Sequence[Table] = (),
) -> Path:
    """Write the page of the most severe scans.

    Args:
        model: Calibrated.
        scans: The scans; with a table at least those that it ranks highest.
        healthy: Healthy scans for the scale of the maps, best ones that the model was not trained on.
        path: The file; its folder is made when it is not there.
        table: Severities of the scans, such as `severity score` writes; they are scored when None.
        top: Most scans to show.
        tables: Shown below the ranking's head, such as those of linear probes.

    Returns:
        The path.

    Raises:
        ArtefactError: If the file cannot be written.
        DependencyError: If jinja2 or matplotlib is missing.
        InputError: If `top` is below 1, or the table names a scan that is not there.
        NotFittedError: If the model is not calibrated.
    """
    return put(render(model, scans, healthy, table=table, top=top, tables=tables), path)


def render(
    model: SeverityModel,
    scans: Images,
    healthy: Images,
    *,
    table: SeverityTable | None = None,
    top: int = 24,
    tables: Sequence[Table] = (),
) -> str:
    """The page as HTML without any external reference; see `write`."""
    templates = environment()
    given.whole("top", top)
    if table is None:
        table = table_of(model, scans)
    ranked = table.ranked()
    ranked = ranked.select(np.arange(min(top, len(ranked))))
    calibration = model.calibration
    if calibration is None:
        raise NotFittedError("a page of severities needs the scores of healthy scans; call calibrate(held_out) first")
    rate = calibration.false_alarm_rate
    grades = table.grades if table.grades is not None and len(np.unique(table.grades)) > 1 else None
    return templates.get_template("severities.html.j2").render(
        shown=_shown(model, scans, healthy, ranked, rate),
        count=len(table),
        unusual=int((table.percentiles >= 1 - rate).sum()),
        share=f"{100 * (1 - rate):.3g}",
        calibrated=len(calibration),
        score=model.detector.score,
        figure=figures.by_grade(table, prefix="grades") if grades is not None else "",
        probes=[to_html(one) for one in tables],
        agreement=() if grades is None else _in_words(agreement(table.scores, grades, groups=table.patients)),
    )


def table_of(model: SeverityModel, scans: Images) -> SeverityTable:
    """The table of scans in memory.

    Args:
        model: Calibrated.
        scans: The scans.
    """
    scores = model.score(scans)
    return SeverityTable(scans.names, scores, model.percentile(scores))


def _shown(model: SeverityModel, scans: Images, healthy: Images, ranked: SeverityTable, rate: float) -> list[Shown]:
    places = {name: row for row, name in enumerate(scans.names)}
    missing = [file for file in ranked.files if file not in places]
    if missing:
        raise InputError(
            f"the table ranks {missing[0]!r} high, and it is not among the scans; give the scans that were scored"
        )
    chosen = scans.select([places[file] for file in ranked.files])
    some = np.linspace(0, len(healthy) - 1, min(KNOWN, len(healthy))).astype(np.int64)
    reconstruction, gradient = heats_of(model.maps(chosen), model.maps(healthy.select(some)))
    pixels: npt.NDArray[np.uint8] = chosen.images.numpy()
    return [
        Shown(
            rank=row + 1,
            name=file,
            facts=_facts(ranked, row),
            unusual=bool(ranked.percentiles[row] >= 1 - rate),
            image=figures.data_uri(pixels[row]),
            reconstruction=figures.data_uri(reconstruction[row]),
            gradient=figures.data_uri(gradient[row]),
        )
        for row, file in enumerate(ranked.files)
    ]


def _facts(table: SeverityTable, row: int) -> str:
    parts = [f"score {table.scores[row]:.4g}", f"above {100 * table.percentiles[row]:.3g} % of healthy scans"]
    for name, column in (("patient", table.patients), ("severity label", table.labels), ("grade", table.grades)):
        if column is not None:
            parts.append(f"{name} {column[row]}")
    return ", ".join(parts)


def _in_words(found: Agreement) -> list[tuple[str, str]]:
    """Names and values of the figures."""
    rows: list[tuple[str, Interval | None]] = [
        ("rank correlation of score and grade", found.spearman),
        (f"AUROC of grade 2 and more ({found.severe} of {found.scans} scans)", found.auroc),
    ]
    return [(name, f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})") for name, one in rows if one is not None]
