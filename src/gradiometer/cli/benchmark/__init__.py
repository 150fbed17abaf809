"""`gradiometer benchmark`."""

from __future__ import annotations

from gradiometer.cli.benchmark import gradcon, severity, suite, tables
from gradiometer.cli.command import Command

COMMAND = Command(
    name="benchmark",
    summary="compare detectors on challenges, with intervals",
    purpose="Tables of detectors against challenges, under protocols that say what each detector was allowed to see.",
    examples="""
        gradiometer benchmark ood --data-root data
        gradiometer benchmark attacks --data-root data --limit 2000
        gradiometer benchmark mistakes --data-root data
        gradiometer benchmark suite --data-root data --limit 500
        gradiometer benchmark all --data-root data --limit 2000 --out tables
        gradiometer benchmark gradcon --data-root data --parts tiles
        gradiometer benchmark severity --data-root data
    """,
    children=(*tables.COMMANDS, suite.COMMAND, gradcon.COMMAND, severity.COMMAND),
)
