"""Write the tables of the documentation from result records, so that no number in it is typed.

    python docs/render_tables.py            # write
    python docs/render_tables.py --check    # only say whether a page differs from its records

A page has a table between `<!-- table: RECORDS -->` and `<!-- end of table -->`; RECORDS is a path from the root.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradiometer.benchmarks import mistakes, probes, records, rendering, tables

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / "howto" / name for name in ("detectors.md", "encoders.md")))
WIDEST = 9
PREDICTIONS = (
    *("MSP (known-only)", "Energy (known-only)", "Feature squeezing (known-only)", "GradNorm (known-only)"),
    *("ExGrad (known-only)", "GradTrust (known-only)", "Pseudo-label norm (known-only)", "Purview (known-only)"),
    *("Guard (known-only)", "Guard with gradients (known-only)", "Confidence alone (matched)"),
    *("Control with confidence (matched)", "Control with class (matched)", "Pseudo-label norms (matched)"),
    *("Pseudo-label with confidence (matched)", "Purview (matched)", "Purview with class (matched)"),
)
"""Columns of the table of wrong predictions that are shown, one in each row."""
ALARMS = (
    *("MSP (known-only)", "Purview (known-only)", "Control (known-only)"),
    *("Guard (known-only)", "Guard with gradients (known-only)"),
)
"""Detectors whose realised false-alarm rates are shown; `tables.md` beside the records has them all."""
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def rendered(page: str) -> str:
    """The text of a page with every table rendered anew."""

    def block(match: re.Match[str]) -> str:
        for ending, render in (("/probes.jsonl", _probes), ("/instrument.json", _instrument)):
            if match[2].endswith(ending):
                return f"{match[1]}\n{render(ROOT / match[2])}\n{match[3]}"
        found = records.read(ROOT / match[2])
        if found[0].benchmark == "mistakes":
            return f"{match[1]}\n{_predictions(found)}\n{match[3]}"
        alarms = [record for record in found if record.column in ALARMS]
        figures = tables.arrange(found)
        # Many detectors are easier to read down than across.
        figures = tables.turned(figures) if len(figures.columns) > WIDEST else figures
        parts = [figures, tables.arrange_false_alarms(alarms)]
        text = "\n".join(f"**{part.title}**\n\n{rendering.to_markdown(part)}" for part in parts)
        return f"{match[1]}\n{text}\n{match[3]}"

    return BLOCK.sub(block, page)


def _predictions(found: Sequence[records.Record]) -> str:
    """Right against wrong predictions: some columns, one in each row, as they are and under corruptions."""
    rows = list(dict.fromkeys(record.challenge for record in found if record.kind == "detection"))
    cells = {(record.column, record.challenge): record for record in found}
    damaged = [name for name in rows if name != mistakes.PLAIN]
    heads = ["AUROC, %", "AURC, thousandths", "right of 80 % kept, %", *(f"AUROC, {name}" for name in damaged)]
    lines = [f"| detector | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for column in PREDICTIONS:
        plain = cells[column, mistakes.PLAIN]
        assert plain.selective is not None
        figures = [
            rendering.figure_cell(plain.metrics.auroc),
            rendering.figure_cell(plain.selective.aurc, unit=1000),
            rendering.figure_cell(plain.selective.accuracy_at_80),
            *(rendering.figure_cell(cells[column, name].metrics.auroc) for name in damaged),
        ]
        name = f"{column}, forward only" if plain.control else column
        lines.append(f"| {name} | {' | '.join(str(figure) for figure in figures)} |")
    return "\n".join(lines) + "\n"


def _probes(path: Path) -> str:
    """AUROC of linear probes on the test photographs of local contrast, and the differences of encoders."""
    found = [record for record in probes.read(path) if record.data == "RetinaMNIST, test, pixels local"]
    parts = [probes.arrange(found, "AUROC"), probes.arrange(found, "AUROC", "difference")]
    return "\n".join(f"**{part.title}**\n\n{rendering.to_markdown(part)}" for part in parts)


def _instrument(path: Path) -> str:
    """What a reading costs on each network, beside a training step and the ways that there were before."""
    lines = [
        (
            "| network, batch | reading, ms a sample | training step, ms a sample | reading / step | memory / step "
            "| loop / reading | pytorch-ood / reading |"
        ),
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for section in json.loads(path.read_text(encoding="utf-8"))["sections"]:
        rows = {row["name"]: row for row in section["rows"]}
        ours, step = rows["instrument"], rows["training-step"]
        cells = [f"{section['title']}, {section['batch']}"]
        cells += [f"{1e3 * row['median'] / section['batch']:.3g}" for row in (ours, step)]
        cells += [_ratio(ours, "to_training_step"), _ratio(ours, "memory_to_training_step")]
        cells += [_ratio(rows.get(name, {}), "to_instrument") for name in ("loop", "pytorch-ood")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(row: Mapping[str, Any], name: str) -> str:
    found = (row.get("ratios") or {}).get(name)
    return "–" if found is None else f"{found:.2f}"


def main() -> int:
    """Write or check all pages; returns the exit code."""
    stale = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (fresh := rendered(page)) != page:
            stale.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(fresh, encoding="utf-8")
    if "--check" in sys.argv[1:] and stale:
        print(f"differs from its records: {', '.join(stale)}; run python docs/render_tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
