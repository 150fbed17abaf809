"""Tables of the GradCon benchmark, rendered from its records beside the published figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from gradiometer.benchmarks.gradcon.classes import OTHERS
from gradiometer.benchmarks.gradcon.controls import BEYOND, PLAIN
from gradiometer.benchmarks.gradcon.measures import Measure
from gradiometer.benchmarks.gradcon.published import published
from gradiometer.benchmarks.gradcon.tiles import NAME as TILES
from gradiometer.benchmarks.grades import spearman
from gradiometer.benchmarks.metrics import Interval
from gradiometer.benchmarks.records import Record
from gradiometer.benchmarks.rendering import Cell, Head, Table, to_markdown

VALIDATION = ("bird", "cat", "deer", "frog", "horse")
"""Classes of CIFAR-10 that our scores were chosen on: `numpy.random.default_rng(0).permutation(10)[:5]`."""

_COSINE = "gradient"
_DRAWN = ("reconstruction", _COSINE)
_PROFILES = (("cae+grad", _COSINE), ("cae+untrained", _COSINE), ("cae+untrained", PLAIN))
_PUBLISHED = "published"
_AVERAGE = "average"
Value = Interval | float


def to_page(records: Sequence[Record], measures: Sequence[Measure]) -> str:
    """All tables in Markdown, each under its title.

    Args:
        records: Result records.
        measures: Figures of pixels and costs.
    """
    made: list[Table] = []
    records = _latest(records)
    classes = [record for record in records if record.challenge == OTHERS]
    for name in dict.fromkeys(record.known.partition("/")[0] for record in classes):
        chosen = [record for record in classes if record.known.startswith(f"{name}/")]
        made.append(_class_table(name, chosen))
        if name == "cifar10":
            made += _halves_tables(chosen)
            made += _nearness_tables(chosen)
    tiles = [record for record in records if record.known == TILES]
    others = [record for record in records if record.challenge != OTHERS and record.known != TILES]
    signs = list(dict.fromkeys(record.known for record in others))
    made += [_condition_table(known, [record for record in others if record.known == known]) for known in signs]
    if tiles:
        made.append(_kinds_table(tiles))
    if any(measure.part == "tiles" for measure in measures):
        made.append(_pixel_table([measure for measure in measures if measure.part == "tiles"]))
    if any(measure.part == "cost" for measure in measures):
        made.append(_cost_table([measure for measure in measures if measure.part == "cost"]))
    return "\n".join(f"**{table.title}**\n\n{to_markdown(table)}" for table in made)


def _class_table(name: str, records: Sequence[Record]) -> Table:
    """AUROC of each normal class, one row for each network, score and number of epochs; published rows beside ours."""
    classes = list(dict.fromkeys(record.known.partition("/")[2] for record in records))
    source = published()
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for (model, detector), epochs in _rows(records):
        found = _by_class(records, model, detector, epochs)
        cells = [_cell(found.get(one)) for one in classes]
        cells.append(_cell(_over(records, model, detector, epochs, classes)))
        rows.append((_title(records, model, detector, epochs), tuple(cells)))
        theirs = source.rows.get((model, detector), {})
        last = not any(pair == (model, detector) and more > epochs for pair, more in _rows(records))
        if name == "cifar10" and theirs and last:
            rows.append((f"*{model}, {detector}, {_PUBLISHED}*", _cells([theirs.get(one) for one in classes])))
    title = (
        f"{name}, one class normal: AUROC in percent, with 95 % bootstrap interval over images; of several seeds the "
        "mean, with the lowest and the highest"
    )
    if name == "cifar10":
        title += f". Published rows ({source.epochs} epochs): {source.source}"
    return Table(title, "network, score", tuple(Head(one) for one in (*classes, _AVERAGE)), tuple(rows))


def _latest(records: Sequence[Record]) -> list[Record]:
    """The last record of each cell: one of another number of images or draws may stand before it."""
    return list(
        {(r.known, r.challenge, r.model, r.detector, r.settings["epochs"], r.seed): r for r in records}.values()
    )


def _halves_tables(records: Sequence[Record]) -> list[Table]:
    """Averages over the classes on which a score was chosen, and over the others, where there are both."""
    classes = list(dict.fromkeys(record.known.partition("/")[2] for record in records))
    halves = [one for one in classes if one in VALIDATION], [one for one in classes if one not in VALIDATION]
    if not all(halves):
        return []
    rows = []
    for (model, detector), epochs in _rows(records):
        cells = [_cell(_over(records, model, detector, epochs, half)) for half in (*halves, classes)]
        rows.append((_title(records, model, detector, epochs), tuple(cells)))
    heads = (f"validation classes ({', '.join(halves[0])})", f"the others ({', '.join(halves[1])})", "all")
    title = "cifar10: our own scores were chosen on the validation classes; AUROC in percent, averages over classes"
    return [Table(title, "network, score", tuple(map(Head, heads)), tuple(rows))]


def _nearness_tables(records: Sequence[Record]) -> list[Table]:
    """How near each cosine comes to the published one, class by class, where all published classes were scored."""
    theirs = {pair: row for pair, row in published().rows.items() if pair[1] == _COSINE}
    rows = []
    for (model, detector), epochs in _rows(records):
        found = _by_class(records, model, detector, epochs)
        if detector not in (_COSINE, PLAIN) or any(one not in found for row in theirs.values() for one in row):
            continue
        cells: list[Cell] = []
        for row in theirs.values():
            ours = [_middle(found[one]) for one in row]
            apart = statistics.fmean(abs(a - b) for a, b in zip(ours, row.values(), strict=True))
            order = spearman(ours, list(row.values()))
            cells += [Cell(f"{100 * apart:.1f}"), Cell(f"{order:.2f}")]
        alike = [r.settings["rank_correlation"] for r in records if _is(r, model, BEYOND, epochs)]
        cells.append(Cell(f"{statistics.fmean(alike):.2f}" if detector == _COSINE and alike else "-"))
        rows.append((_title(records, model, detector, epochs), tuple(cells)))
    heads = [
        Head(f"{model}, {_PUBLISHED}: {what}")
        for model, _ in theirs
        for what in ("mean difference", "rank correlation")
    ]
    heads.append(Head("rank correlation with plain pixels, image by image, mean over classes and seeds"))
    title = (
        "cifar10: how near a cosine comes to the published one, class by class: mean absolute difference in points of "
        "AUROC, and rank correlation over the classes"
    )
    return [Table(title, "network, score", tuple(heads), tuple(rows))] if rows else []


def _condition_table(known: str, records: Sequence[Record]) -> Table:
    """Mean AUROC over the levels of each corruption."""
    kinds = list(dict.fromkeys(record.challenge.rpartition(".")[0] for record in records))
    rows = []
    for (model, detector), epochs in _rows(records):
        values: list[Value | None] = []
        for kind in kinds:
            chosen = [
                record.metrics.auroc
                for record in records
                if _is(record, model, detector, epochs) and record.challenge.rpartition(".")[0] == kind
            ]
            values.append(_average(list(chosen)))
        rows.append((f"{model}, {detector}, {epochs} epochs", _cells(values)))
    title = f"{known}: clean against corrupted, AUROC in percent, mean over the levels 1 to 5"
    return Table(title, "network, score", tuple(Head(one) for one in (*kinds, _AVERAGE)), tuple(rows))


def curves(records: Sequence[Record], model: str = "cae+grad") -> dict[str, dict[str, list[float]]]:
    """AUROC of reconstruction and gradient by corruption and level, for the figure; the longest training counts.

    Args:
        records: Result records.
        model: Name of the network.
    """
    chosen = [r for r in _latest(records) if r.model == model and r.known != TILES and r.challenge != OTHERS]
    longest = max((record.settings["epochs"] for record in chosen), default=0)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for record in chosen:
        if record.settings["epochs"] == longest and record.detector in _DRAWN:
            kind, _, level = record.challenge.rpartition(".")
            lines = found.setdefault(kind, {name: {} for name in _DRAWN})
            lines[record.detector].setdefault(level, []).append(record.metrics.auroc.value)
    return {
        kind: {name: [statistics.fmean(levels[one]) for one in sorted(levels)] for name, levels in lines.items()}
        for kind, lines in found.items()
    }


def profiles(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """AUROC of each class of CIFAR-10, for the figure: the published cosine, and ours as far as all classes are there.

    Ours are the cosine of the constrained network after the longest training, that of the untrained one, and that of
    plain pixels; of several seeds the mean.

    Args:
        records: Result records.
    """
    theirs = published().rows["cae+grad", _COSINE]
    chosen = [
        record for record in _latest(records) if record.known.startswith("cifar10/") and record.challenge == OTHERS
    ]
    found = {f"{_PUBLISHED} (cae+grad, {published().epochs} epochs)": theirs}
    longest = dict(_rows(chosen))  # epochs ascend, and the last ones stay
    for model, detector in _PROFILES:
        epochs = longest.get((model, detector), 0)
        values = _by_class(chosen, model, detector, epochs)
        if all(one in values for one in theirs):
            name = PLAIN if detector == PLAIN else f"{model}, {epochs} epochs"
            found[name] = {one: _middle(values[one]) for one in theirs}
    return found


def _kinds_table(records: Sequence[Record]) -> Table:
    """AUROC of each kind of defect."""
    kinds = list(dict.fromkeys(record.challenge for record in records))
    rows = []
    for (model, detector), epochs in _rows(records):
        found = _pooled(records, model, detector, epochs, lambda record: record.challenge)
        trained = f", {epochs} epochs" if model.startswith(("cae", "vae")) else ""
        rows.append((f"{model}, {detector}{trained}", _cells([found.get(kind) for kind in kinds])))
    title = "magnetic tiles, free against defective: AUROC in percent, with 95 % bootstrap interval over images"
    return Table(title, "method, score", tuple(Head(one) for one in (*kinds, _AVERAGE)), tuple(rows))


def _pixel_table(measures: Sequence[Measure]) -> Table:
    figures = list(dict.fromkeys(measure.figure for measure in measures))
    subjects = list(dict.fromkeys(measure.subject for measure in measures))
    found = {(m.subject, m.figure): Interval(m.value, m.low, m.high) for m in measures}
    rows = [(one, tuple(_cell(found.get((one, figure))) for figure in figures)) for one in subjects]
    first = measures[0].settings
    title = (
        f"magnetic tiles: marked pixels that maps find, in percent, with 95 % bootstrap interval over "
        f"{first['images']} images with {first['regions']} regions"
    )
    return Table(title, "map", tuple(map(Head, figures)), tuple(rows))


def _cost_table(measures: Sequence[Measure]) -> Table:
    rows = [
        (
            f"{measure.subject}: {measure.figure}",
            (Cell(_number(measure.value), _span(measure)), Cell(measure.unit)),
        )
        for measure in measures
    ]
    environment = measures[-1].environment
    title = (
        f"Costs, median and range, {environment['threads']} thread(s) of {environment['cores']} cores "
        f"({environment['machine']})"
    )
    return Table(title, "what", (Head("value"), Head("unit")), tuple(rows))


def _rows(records: Sequence[Record]) -> list[tuple[tuple[str, str], int]]:
    """Network, score and epochs of each row: networks and scores in the order of the records, epochs ascending."""
    found: dict[tuple[str, str], set[int]] = {}
    for record in records:
        found.setdefault((record.model, record.detector), set()).add(int(record.settings["epochs"]))
    return [(pair, epochs) for pair, several in found.items() for epochs in sorted(several)]


def _is(record: Record, model: str, detector: str, epochs: int) -> bool:
    return (record.model, record.detector, record.settings["epochs"]) == (model, detector, epochs)


def _by_class(records: Sequence[Record], model: str, detector: str, epochs: int) -> dict[str, Value]:
    return _pooled(records, model, detector, epochs, lambda record: record.known.partition("/")[2])


def _pooled(
    records: Sequence[Record], model: str, detector: str, epochs: int, name: Callable[[Record], str]
) -> dict[str, Value]:
    """AUROC by name; over several seeds the mean, between the lowest and the highest seed."""
    seeds: dict[str, dict[int, Interval]] = {}
    for record in records:
        if _is(record, model, detector, epochs):
            seeds.setdefault(name(record), {})[record.seed] = record.metrics.auroc
    found: dict[str, Value] = {}
    for one, intervals in seeds.items():
        values = [interval.value for interval in intervals.values()]
        if len(values) == 1:
            found[one] = next(iter(intervals.values()))
        else:
            found[one] = Interval(statistics.fmean(values), min(values), max(values))
    return found


def _title(records: Sequence[Record], model: str, detector: str, epochs: int) -> str:
    """Name of a row, with the number of seeds when there are several."""
    seeds = len({record.seed for record in records if _is(record, model, detector, epochs)})
    return f"{model}, {detector}, {epochs} epochs" + (f", {seeds} seeds" if seeds > 1 else "")


def _over(records: Sequence[Record], model: str, detector: str, epochs: int, classes: Sequence[str]) -> Value | None:
    """Average over classes; of several seeds that have them all the mean, the lowest and the highest average."""
    seeds: dict[int, dict[str, float]] = {}
    for record in records:
        name = record.known.partition("/")[2]
        if _is(record, model, detector, epochs) and name in classes:
            seeds.setdefault(record.seed, {})[name] = record.metrics.auroc.value
    complete = [statistics.fmean(found.values()) for found in seeds.values() if len(found) == len(classes)]
    if len(complete) > 1:
        return Interval(statistics.fmean(complete), min(complete), max(complete))
    found = _by_class(records, model, detector, epochs)
    return _average([found.get(one) for one in classes])


def _middle(value: Value) -> float:
    return value.value if isinstance(value, Interval) else value


def _average(values: Sequence[Value | None]) -> Value | None:
    """Mean of figures, or nothing when one is missing. The half-widths of independent figures add up in squares."""
    present = [value for value in values if value is not None]
    if len(present) != len(values) or not present:
        return None
    if not all(isinstance(value, Interval) for value in present):
        return statistics.fmean(map(_middle, present))
    intervals = [value for value in present if isinstance(value, Interval)]
    mean = statistics.fmean(interval.value for interval in intervals)
    below = sum((interval.value - interval.low) ** 2 for interval in intervals) ** 0.5 / len(intervals)
    above = sum((interval.high - interval.value) ** 2 for interval in intervals) ** 0.5 / len(intervals)
    return Interval(mean, mean - below, mean + above)


def _cells(values: Sequence[Value | None]) -> tuple[Cell, ...]:
    """A cell for each value, and one for their average."""
    return tuple(_cell(value) for value in (*values, _average(values)))


def _cell(value: Value | None) -> Cell:
    if value is None:
        return Cell("-")
    if isinstance(value, float):
        return Cell(f"{100 * value:.1f}")
    return Cell(f"{100 * value.value:.1f}", f"{100 * value.low:.1f}–{100 * value.high:.1f}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _span(measure: Measure) -> str:
    return "" if measure.low == measure.high else f"{_number(measure.low)}–{_number(measure.high)}"
