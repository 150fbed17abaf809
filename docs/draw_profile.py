"""Draw the figure at the top of README: run the demonstration, write its per-layer profile.

python docs/draw_profile.py
"""

from __future__ import annotations

from pathlib import Path

from gradiometer.benchmarks import demo
from gradiometer.reports import figures

CHALLENGE = "letters"


def main() -> None:
    """Write `docs/images/profile.svg`."""
    outcome = demo.run(demo.DemoSettings(out=None))
    path = Path(__file__).with_name("images") / "profile.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(figures.standalone(figures.profile(outcome.profile, CHALLENGE, prefix="")), encoding="utf-8")


if __name__ == "__main__":
    main()
