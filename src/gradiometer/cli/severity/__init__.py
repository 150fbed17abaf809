"""`gradiometer severity`: one module for each command below it."""

from __future__ import annotations

from gradiometer.cli.command import Command
from gradiometer.cli.severity import label, pretrain, probe, report, run, score, train

COMMAND = Command(
    name="severity",
    summary="how far scans are from healthy ones, and labels made of it",
    purpose="""
        From healthy scans alone to graded ones: train an auto-encoder on them, score other scans by the gradient that
        they ask of it, and make severity labels of the scores.
    """,
    examples="""
        gradiometer severity train --healthy healthy/ --size 64 --out runs/severity
        gradiometer severity score --model runs/severity --images scans/ --out scores.parquet
        gradiometer severity label --table scores.parquet --bins 100 --out labels.parquet
        gradiometer severity pretrain --images scans/ --table labels.parquet --columns label --out runs/encoder
        gradiometer severity probe --encoders runs/encoder --train scans/ --table biomarkers.csv --targets fluid \\
            --out runs/probe
    """,
    children=(
        train.COMMAND,
        score.COMMAND,
        label.COMMAND,
        pretrain.COMMAND,
        probe.COMMAND,
        run.COMMAND,
        report.COMMAND,
    ),
)
