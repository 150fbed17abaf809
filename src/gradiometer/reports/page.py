"""One self-contained HTML page about a benchmark: no script, no font, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiometer.benchmarks import layouts, predictions, rendering, tables
from gradiometer.benchmarks.metrics import FIGURES
from gradiometer.benchmarks.outcome import Examples, Outcome, Scores
from gradiometer.benchmarks.records import Record
from gradiometer.errors import ArtefactError, DependencyError, InputError
from gradiometer.files import write_text
from gradiometer.reports import curves, figures

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"

_PROTOCOLS = {
    "known-only": "the detector saw known images and nothing else. This is what a user has.",
    "matched": "a decision network was trained for each challenge on a slice of that same challenge and tested on the "
    "rest, as in the published tables. It says how much the readings contain, not what to expect of a challenge "
    "that nobody has seen.",
    "transfer": "a decision network was trained on another challenge than the one it is tested on.",
}
_CONTROL = (
    "the same method on forward-only statistics (activations instead of gradients and activations). What a gradient "
    "detector gains over its control is what the backward pass is worth."
)

_COMPARED = 3
"""Detectors that the head of a page names beside the one that it is about."""

_ALL_PROFILES = 24
"""Parameter tensors up to which every challenge gets a figure of the layers; beyond, the first one alone does."""


def render(outcome: Outcome) -> str:
    """The page.

    Args:
        outcome: What a benchmark hands over.

    Returns:
        HTML without any external reference.

    Raises:
        DependencyError: If jinja2 or matplotlib is missing.
        InputError: If there are no records.
    """
    templates = environment()
    if not outcome.records:
        raise InputError("a report needs at least one record")
    records = list(outcome.records)
    used = {record.protocol for record in records}
    protocols: list[tuple[str, str]] = [(name, words) for name, words in _PROTOCOLS.items() if name in used]
    if any(record.control for record in records):
        protocols.append(("control", _CONTROL))
    return templates.get_template("page.html.j2").render(
        title=outcome.title,
        findings=findings(outcome),
        steps=outcome.steps,
        main_table=_table(tables.arrange(records)),
        other_tables=[_table(tables.arrange(records, figure)) for figure in FIGURES if figure != "auroc"],
        alarms=_optional(records, alarms=True),
        null_table=_optional(records, alarms=False),
        protocols=protocols,
        published=[_table(table) for table in layouts.beside_published(records)],
        transfers=[_table(table) for table in layouts.transfers(records)],
        heat_map=_heat_map(records),
        differences=_table(layouts.arrange_differences(outcome.differences)) if outcome.differences else None,
        asides=[_table(table) for table in _asides(records)],
        overview=_safe(curves.layers(outcome.profile, prefix="overview")) if outcome.profile.challenges else None,
        about_predictions=outcome.about_predictions,
        selective=[_table(table) for table in predictions.arrange_selective(records)],
        risks=[_table(table) for table in predictions.arrange_risks(outcome.differences)],
        risk=_risk(outcome),
        roc=_safe(curves.roc(outcome.scores, prefix="roc")) if outcome.scores else None,
        histograms=_histograms(outcome),
        profiles=_profiles(outcome),
        examples=[_examples(entry) for entry in outcome.examples],
        judge=outcome.judge,
        rate=f"{100 * outcome.false_alarm_rate:g}",
        facts=_facts(records),
        lines=[record.to_json() for record in records],
    )


def write(outcome: Outcome, path: Path) -> Path:
    """Render the page into a file.

    Args:
        outcome: What a benchmark hands over.
        path: The file; its folder is made when it is not there.

    Returns:
        The path.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    return put(render(outcome), path)


def put(page: str, path: str | Path) -> Path:
    """Write a page in one step: a page that was there stays until the new one is complete.

    Args:
        page: The HTML.
        path: The file; its folder is made when it is not there.

    Returns:
        The path.

    Raises:
        ArtefactError: If the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"{target} cannot be written ({error}); choose another folder") from error
    write_text(target, page)
    return target


def findings(outcome: Outcome) -> list[str]:
    """What came out, in sentences that are computed from the records.

    Args:
        outcome: What a benchmark hands over.

    Returns:
        Up to two: how well the detector whose verdicts are shown does beside others, and how its rate of false alarms
        came out. What the records do not say is left out.
    """
    detections = [record for record in outcome.records if record.kind == "detection"]
    challenges = len({record.challenge for record in detections})
    sentences = []
    means: dict[tuple[str, str], list[float]] = {}
    for record in detections:
        if record.protocol == "transfer":
            continue
        means.setdefault((record.detector, record.protocol), []).append(record.metrics.auroc.value)
    own = {key: sum(values) / len(values) for key, values in means.items() if len(values) == challenges}
    judge = next((key for key in own if f"{key[0]} ({key[1]})" == outcome.judge), None)
    if judge is not None:
        higher, what = ("a challenge above a known image", "challenges")
        if outcome.about_predictions:
            higher, what = ("a wrong prediction above a right one", "rows")
        sentence = (
            f"{judge[0]}, which has seen known images only, scores {higher} in "
            f"{100 * own[judge]:.1f} % of all pairs, on average over {challenges} {what}."
        )
        others = {key[0]: value for key, value in own.items() if key[1] == "known-only" and key != judge}
        best = sorted(others, key=others.__getitem__, reverse=True)[:_COMPARED]
        if best:
            beside = "For comparison" if len(others) == len(best) else f"The best of {len(others)} others like it"
            sentence += f" {beside}: {', '.join(f'{name} {100 * others[name]:.1f} %' for name in best)}."
        sentences.append(sentence)
    for record in detections:
        alarms = record.false_alarms
        if alarms is not None and record.column == outcome.judge:
            sentences.append(
                f"It was asked to flag {100 * alarms.asked:g} % of known images; of {alarms.count} that it had never "
                f"seen it flagged {100 * alarms.realised:.1f} %."
            )
            break
    return sentences


def environment() -> Environment:
    """The templates of this room.

    Raises:
        DependencyError: If jinja2 is missing.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise DependencyError(
            "reports need jinja2, which is not installed; run: pip install 'gradiometer[report]'"
        ) from error
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _safe(markup: str) -> Any:
    """Markup of our own, which is not escaped again."""
    from markupsafe import Markup

    return Markup(markup)  # noqa: S704 - rendered by this package from escaped parts


def _table(table: rendering.Table) -> dict[str, Any]:
    return {"title": table.title, "html": _safe(rendering.to_html(table))}


def _optional(records: Sequence[Record], *, alarms: bool) -> dict[str, Any] | None:
    """The table of false alarms or of the null test, where there is one."""
    if alarms:
        present = any(record.false_alarms is not None for record in records)
        return _table(tables.arrange_false_alarms(records)) if present else None
    present = any(record.kind == "null" for record in records)
    return _table(tables.arrange(records, kind="null")) if present else None


def _asides(records: Sequence[Record]) -> list[rendering.Table]:
    """What the attacks did, and known images that were handled in another way, where there are any."""
    found = layouts.attack_facts(records)
    if any(record.kind == "handling" for record in records):
        found.append(tables.arrange(records, kind="handling"))
    return found


def _heat_map(records: Sequence[Record]) -> Any:
    """The matrix of transfer as a figure, where there is one."""
    svg = curves.transfer(records, prefix="transfer")
    return None if svg is None else _safe(svg)


def _risk(outcome: Outcome) -> Any:
    """The risk-coverage curves, where right and wrong predictions were told apart."""
    if not outcome.scores or not outcome.about_predictions:
        return None
    return _safe(curves.risk(outcome.scores, prefix="risk"))


def _histograms(outcome: Outcome) -> list[dict[str, Any]]:
    panels = []
    for number, name in enumerate(dict.fromkeys(entry.challenge for entry in outcome.scores)):
        rows: list[Scores] = [entry for entry in outcome.scores if entry.challenge == name]
        panels.append({"name": name, "svg": _safe(figures.histograms(rows, prefix=f"scores{number}"))})
    return panels


def _profiles(outcome: Outcome) -> list[dict[str, Any]]:
    names = list(outcome.profile.challenges)
    if len(outcome.profile.parameters) > _ALL_PROFILES:
        names = names[:1]
    return [
        {
            "name": f"known against {name}",
            "svg": _safe(figures.profile(outcome.profile, name, prefix=f"layers{number}")),
        }
        for number, name in enumerate(names)
    ]


def _examples(entry: Examples) -> Mapping[str, Any]:
    images = [
        {"uri": figures.data_uri(image), "p": f"{p:.2g}", "flagged": bool(flagged)}
        for image, p, flagged in zip(entry.images, entry.p_values, entry.flagged, strict=True)
    ]
    return {"name": entry.name, "images": images}


def _facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What is needed to repeat the run, without repetition."""
    first = next((record for record in records if record.kind == "detection"), records[0])
    tested = {record.challenge: record.metrics.challenge for record in records if record.kind == "detection"}
    facts = [
        ("model", first.model),
        ("weights, SHA-256", first.weights_sha256),
        ("known images", first.known),
        ("known images tested", str(first.metrics.known)),
        ("challenge images tested", ", ".join(f"{name} {count}" for name, count in tested.items())),
        ("seed", str(first.seed)),
        ("bootstrap resamples", str(first.draws)),
        ("time to read the challenges", f"{_reading_seconds(records):.1f} s"),
    ]
    facts += [(name, str(value)) for name, value in first.environment.items()]
    facts += [(name, value) for name, value in first.versions.items()]
    return facts


def _reading_seconds(records: Sequence[Record]) -> float:
    """Readings are shared: each set counts once."""
    return sum({record.challenge: record.reading_seconds for record in records}.values())
