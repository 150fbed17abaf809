"""The how-to on challenges runs from start to end, and says what its text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from gradiometer.challenges import ATTACKS, CORRUPTIONS, attack

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "challenges.md").read_text(encoding="utf-8")


def test_the_page_runs_from_start_to_end(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    run = subprocess.run(
        # The newest Foolbox, of 2024, imports a module of SciPy by its old name.
        [sys.executable, "-W", "error", "-W", "ignore:Please import:DeprecationWarning", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert run.returncode == 0, run.stderr
    shares = {name: float(share) for name, share in re.findall(r"^accuracy(.*?): ([\d.]+)%", run.stdout, re.MULTILINE)}
    assert shares[""] > 90
    assert shares[" in haze"] <= shares[""]
    assert shares[" under attack"] < 30
    named = re.findall(r"^(\w+): ", run.stdout, re.MULTILINE)
    assert {name for name in named if name in CORRUPTIONS} == {n for n, recipe in CORRUPTIONS.items() if recipe.uneven}
    wins = dict(re.findall(r"^(.*): .* in (\d+)% of all pairs", run.stdout, re.MULTILINE))
    assert {"known-only", "matched", "matched, with channels", "published statistics", "gradient norms"} == {*wins}
    for learnt in ("matched", "published statistics", "gradient norms"):
        assert int(wins[learnt]) > 55, run.stdout


def test_the_table_of_attacks_is_complete_and_its_defaults_are_true() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| \[\d+\] \|$", PAGE, re.MULTILINE))
    assert list(rows) == list(ATTACKS)
    for name, text in rows.items():
        for setting, value in re.findall(r"`(\w+)` ([\d./]+)", text):
            numbers = [float(number) for number in value.split("/")]
            assert attack(name).settings[setting] == numbers[0] / (numbers[1] if len(numbers) > 1 else 1), (
                name,
                setting,
            )


def test_the_contact_sheet_is_there_and_small() -> None:
    sheet = ROOT / "docs" / "images" / "corruptions.png"
    assert "images/corruptions.png" in PAGE
    assert 50_000 < sheet.stat().st_size < 300_000
