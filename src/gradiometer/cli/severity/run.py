"""`gradiometer severity run`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.severity import cohorts, pretrain, probe, train
from gradiometer.cli.severity.cohorts import FORMS, Described
from gradiometer.cli.severity.score import load_for
from gradiometer.cli.sources import LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import DependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gradiometer.benchmarks.probes import ProbeRecord
    from gradiometer.data import Cohort
    from gradiometer.severity import SeverityModel, SeverityTable

_SEVERITY = "severity"
_PRETRAINING = "pre-training"
_PROBES = "probes"
LABELS = "labels.csv"
PAGE = "severity.html"
_NAMED = 5
"""Scans that are named when they are left out."""


@dataclass(frozen=True, kw_only=True)
class Options(Described):
    """Settings of the command: those of `severity train`, `label`, `pretrain` and `probe` that matter most."""

    healthy: str = option(f"healthy scans, and nothing else: {sources.FORMS}")
    images: str = option(f"scans to score and to learn from; their targets are not used: {FORMS}")
    train: str = option(f"scans with targets, to fit heads on: {FORMS}")
    targets: tuple[str, ...] = option("columns to read, such as IRF DME IRHRF FAVF PAVF, or class>=2")
    out: str = option("folder for everything")
    test: str | None = option(
        "other scans with targets; three tenths of those of --train when absent, divided by patient", None
    )
    limit: int | None = option(LIMIT, None)
    device: str = option(DEVICE, "auto")
    seed: int = option("of everything", 0)
    severity_size: int | None = option(
        "resize scans to so many pixels before they are scored; the size of the encoder when absent",
        None,
        group=_SEVERITY,
        least=1,
    )
    contrast: Literal["as-is", "standard", "local"] = option(
        "what is done to scans before they are scored, as for severity train", "local", group=_SEVERITY
    )
    severity_epochs: int = option("passes over the healthy scans", 200, group=_SEVERITY)
    severity_batch_size: int | None = option(
        "healthy scans in a step; 64 when absent, or all that it trains on where they are fewer", None, group=_SEVERITY
    )
    score: Literal["subspace", "gradient", "combined", "fused", "reconstruction", "density"] = option(
        "what a scan is scored by", "subspace", group=_SEVERITY
    )
    bins: int = option("number of severity labels, at most one for each scan", 1000, group=_SEVERITY)
    columns: tuple[str, ...] = option(
        "further columns to learn from beside the severity label, such as BCVA CST Eye_ID, or image for SimCLR",
        (),
        group=_PRETRAINING,
    )
    encoder: Literal["resnet18", "resnet50", "resnet20", "resnet8"] = option(
        "residual network", "resnet18", group=_PRETRAINING
    )
    epochs: int = option("passes over the images", 25, group=_PRETRAINING)
    batch_size: int = option("images in a step of the encoder", 64, group=_PRETRAINING)
    learning_rate: float = option("highest learning rate of the schedule", 1e-3, group=_PRETRAINING)
    schedule: Literal["constant", "cosine"] = option("how the learning rate changes", "constant", group=_PRETRAINING)
    baseline: bool = option("pre-train by SimCLR as well, for comparison (true or false)", True, group=_PRETRAINING)
    heads: Literal["separate", "joint"] = option(
        "a head for each target, or one layer with a sigmoid for each", "separate", group=_PROBES
    )
    allow_shared: bool = option(
        "allow patients on both sides of the split; the records then say so", False, group=_PROBES
    )
    draws: int = option("bootstrap resamples behind each interval", 1000, group=_PROBES)
    top: int = option("most scans on the page", 24, group=_PROBES)


def run(options: Options, terminal: Terminal) -> None:
    """Train, score, label, pre-train, probe, and write the page."""
    import numpy as np

    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    pool = cohorts.load(options.images, options, limit=options.limit)
    model, scans, kept, table = _severities(options, pool, terminal)
    pool = pool.select(kept)
    columns = {"label": table.labels, "score": table.scores}
    labelled = replace(
        pool,
        columns={**pool.columns, **{name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}},
    )
    channels, height, width = pool.images.images.shape[1:]
    reading = _same(options, Described) | {
        "size": options.size or (height if height == width else None),
        "channels": options.channels or channels,
        "limit": options.limit,
        "device": options.device,
        "seed": options.seed,
    }
    recipe = {name: getattr(options, name) for name in ("encoder", "epochs", "batch_size", "learning_rate", "schedule")}
    encoders = {"severity": ("label", *options.columns)} | ({"simclr": ()} if options.baseline else {})
    for name, chosen in encoders.items():
        given = pretrain.Options(**reading, **recipe, images=options.images, out=str(out / name), columns=chosen)
        pretrain.train(given, labelled, terminal)
    asked = {name: getattr(options, name) for name in ("train", "test", "targets", "heads", "allow_shared", "draws")}
    paths = tuple(str(out / name) for name in encoders)
    found = probe.measure(probe.Options(**reading, **asked, encoders=paths, out=str(out / "probe")), terminal)
    _page(options, model, scans, table, found, terminal)


def _severities(
    options: Options, pool: Cohort, terminal: Terminal
) -> tuple[SeverityModel, Cohort, NDArray[np.bool_], SeverityTable]:
    """The model of healthy scans, the scans that it can score, which of the pool they are, and their labels."""
    import numpy as np

    from gradiometer import severity

    channels, height, width = pool.images.images.shape[1:]
    size = options.severity_size or (height if height == width else None)
    home = Path(options.out) / "model"
    given = train.Options(
        healthy=options.healthy,
        out=str(home),
        contrast=options.contrast,
        epochs=options.severity_epochs,
        score=options.score,
        seed=options.seed,
        device=options.device,
        limit=options.limit,
        batch_size=options.severity_batch_size,
        **_same(options, Reading) | {"size": size, "channels": options.channels or channels},
    )
    train.run(given, terminal)
    model = severity.SeverityModel.load(home / severity.ARTEFACT)
    artefacts.on_device(model.model, options.device)
    if size is not None and (size, size) != (height, width):
        # Read again: what is resized for the encoder and then for the model is not what healthy scans look like.
        pool = cohorts.load(options.images, replace(options, size=size), limit=options.limit)
    kept = ~model.preparation.blank(pool.images)
    if blank := np.flatnonzero(~kept).tolist():
        terminal.note(
            f"left out, {len(blank):,} of {len(kept):,} scans, since they have no contrast (black, white or of one "
            "colour): "
            + ", ".join(pool.images.names[row] for row in blank[:_NAMED])
            + (", ..." if len(blank) > _NAMED else "")
        )
        pool = pool.select(kept)
    scores = model.score(pool.images)
    patients = None if pool.patients is None else tuple(owner or "unknown" for owner in pool.patients)
    table = severity.SeverityTable(pool.images.names, scores, model.percentile(scores), patients)
    table = table.labelled(min(options.bins, len(pool)))
    path = Path(options.out) / LABELS
    table.write(path)
    terminal.show(f"{path}: severities and labels of {len(table):,} scans")
    return model, pool, kept, table


def _page(
    options: Options,
    model: SeverityModel,
    scans: Cohort,
    table: SeverityTable,
    found: list[ProbeRecord],
    terminal: Terminal,
) -> None:
    """Scans by severity with maps, and the tables of the probes."""
    from gradiometer.benchmarks import probes
    from gradiometer.reports import severities

    healthy = load_for(model, options.healthy, replace(options, size=None, channels=None), limit=options.limit)
    path = Path(options.out) / PAGE
    try:
        severities.write(model, scans.images, healthy, path, table=table, top=options.top, tables=probes.tables(found))
    except DependencyError as error:
        terminal.note(f"no page: {error}")
    else:
        terminal.show(f"page: {path}")


def _same(options: Options, kind: type) -> dict[str, Any]:
    """Settings that another command has too."""
    return {entry.name: getattr(options, entry.name) for entry in fields(kind)}


COMMAND = Command(
    name="run",
    summary="from healthy scans to a table of biomarkers, in one go",
    purpose="""
        Everything at once: train on healthy scans, score other scans, make severity labels, pre-train an encoder by
        them and another one by SimCLR, probe both beside random weights, and write the page. Settings fit into a file:
        add --print_config to see it, and give it with --config. Run the same command again to continue after an
        interruption.
    """,
    examples="""
        # a folder of scans, and a table with findings for some of them
        gradiometer severity run --healthy healthy/ --images scans/ --train scans/ --table findings.csv \\
            --targets fluid --size 224 --channels 1 --severity-size 64 --out runs/scans

        # OLIVES, with healthy scans from elsewhere
        gradiometer severity run --healthy OCT2017/train/NORMAL --images OLIVES:pool1 --train OLIVES:train1 \\
            --test OLIVES:test1 --targets IRF DME IRHRF FAVF PAVF --size 224 --channels 1 --severity-size 64 \\
            --bins 5000 --heads joint --allow-shared --out runs/olives
    """,
    options=Options,
    run=run,
    interrupted="finished trainings are kept, run the same command again to continue",
)
