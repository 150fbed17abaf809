"""`gradiometer severity train`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import ArtefactError

if TYPE_CHECKING:
    from gradiometer.anomaly import AnomalyRecipe
    from gradiometer.data import Images
    from gradiometer.severity import Preparation, SeverityModel

_BATCH = 64
_SEEN = "what the auto-encoder sees"
_RECIPE = "recipe"
_SCORE = "score"


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command: those of `severity.Preparation`, `anomaly.AnomalyRecipe`, `Constraint` and `GradCon`."""

    healthy: str = option(f"healthy scans, and nothing else: {FORMS}")
    out: str = option("folder for severity.safetensors, record.json and the checkpoint")
    validation: str | None = option(
        "other healthy scans to choose the weights by; a tenth of the healthy ones when absent", None
    )
    held_out: str | None = option(
        "other healthy scans that percentiles are taken from; a tenth of the healthy ones when absent", None
    )
    false_alarm_rate: float = option("share of healthy scans that may be called unusual", 0.05)
    limit: int | None = option(LIMIT, None)
    device: str = option(DEVICE, "auto")
    tile: int | None = option(
        "cut scans into tiles of TILE x TILE pixels, for scans too large for --size; whole scans when absent",
        None,
        group=_SEEN,
    )
    pool: Literal["mean", "max"] = option("how scores of tiles become that of their scan", "mean", group=_SEEN)
    contrast: Literal["as-is", "standard", "local"] = option(
        "leave pixels as they are, give each channel of each scan the same mean and spread, or take slow changes of "
        "brightness away as well",
        "local",
        group=_SEEN,
    )
    network: Literal["cae", "vae"] = option("convolutional auto-encoder, or the variational one", "cae", group=_RECIPE)
    epochs: int = option("passes over the scans; more of them continue a finished training", 200, group=_RECIPE)
    patience: int = option("stop after so many epochs without a better criterion; 0 for never", 0, group=_RECIPE)
    batch_size: int | None = option(
        "scans, or tiles, in a step; 64 when absent, or all that it trains on where they are fewer", None, group=_RECIPE
    )
    learning_rate: float = option("of Adam", 1e-3, group=_RECIPE)
    alpha: float = option("weight of the gradient constraint; 0 for none", 0.03, group=_RECIPE)
    seed: int = option("of weights, order and division of the scans", 0, group=_RECIPE)
    score: Literal[
        "subspace", "whitened", "aligned", "gradient", "combined", "fused", "reconstruction", "latent", "density"
    ] = option(
        "what a scan is scored by: gradients outside of the main directions of healthy ones, their whitened cosine "
        "with the mean, that of image and error too, their cosine, the published score, ...",
        "subspace",
        group=_SCORE,
    )
    beta: float = option("weight of the mean cosine in the combined score", 0.12, group=_SCORE)
    neighbours: int = option("k of the density", 10, group=_SCORE)
    directions: int = option("dimensions of the subspace", 20, group=_SCORE)


def run(options: Options, terminal: Terminal) -> None:
    """Train, or continue, and write the model."""
    from gradiometer import anomaly, severity

    recipe = anomaly.AnomalyRecipe(
        network=options.network,
        constraint=anomaly.Constraint(options.alpha),
        epochs=options.epochs,
        patience=options.patience,
        batch_size=_BATCH if options.batch_size is None else options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    healthy = sources.load(options.healthy, options, limit=options.limit)
    shape = healthy.images.shape[1:]
    validation, held_out = (
        None if name is None else sources.load(name, options, limit=options.limit, shape=shape)
        for name in (options.validation, options.held_out)
    )
    preparation = severity.Preparation(shape[0], (shape[1], shape[2]), options.tile, options.contrast)
    _check_earlier(Path(options.out), preparation)
    if options.batch_size is None:
        recipe = _fitting(recipe, healthy, validation, held_out, preparation, terminal)
    seen = f"tiles of {options.tile} x {options.tile}" if options.tile else f"whole scans of {shape[1]} x {shape[2]}"
    terminal.note(f"training a {options.network} on {len(healthy):,} healthy scans, {seen}, {shape[0]} channel(s)")

    def epoch(figures: dict[str, Any]) -> None:
        terminal.note(
            f"epoch {figures['epoch']} of {options.epochs}: reconstruction {figures['reconstruction']:.5f}, mean "
            f"cosine {figures['cosine']:+.3f}, validation loss {figures['validation_loss']:.5f}, "
            f"{figures['seconds']:.1f} s"
        )

    with terminal.progress() as progress:
        model = severity.train_severity(
            healthy,
            options.out,
            preparation,
            recipe,
            validation=validation,
            held_out=held_out,
            pool=options.pool,
            false_alarm_rate=options.false_alarm_rate,
            settings={name: getattr(options, name) for name in ("score", "beta", "neighbours", "directions")},
            device=artefacts.device_named(options.device),
            progress=epoch,
            steps=lambda done, total: progress("steps", done, total),
        )
    _report(model, options, terminal)


def _check_earlier(out: Path, preparation: Preparation) -> None:
    """Say which settings differ from those of a training in the same folder; its images would only be called others.

    Raises:
        ArtefactError: Scans were prepared otherwise.
    """
    from gradiometer import severity
    from gradiometer.anomaly.training import CHECKPOINT

    if not (out / CHECKPOINT).exists():
        return
    try:
        earlier = severity.SeverityModel.load(out / severity.ARTEFACT).preparation
    except ArtefactError:  # there is none yet, or it cannot be read: the checkpoint decides
        return
    pairs = [(entry.name, getattr(earlier, entry.name), getattr(preparation, entry.name)) for entry in fields(earlier)]
    differing = ", ".join(f"{name} {then} instead of {now}" for name, then, now in pairs if then != now)
    if differing:
        raise ArtefactError(
            f"{out} holds a training with {differing}; give the same to continue, or another folder to start again"
        )


def _fitting(
    recipe: AnomalyRecipe,
    healthy: Images,
    validation: Images | None,
    held_out: Images | None,
    preparation: Preparation,
    terminal: Terminal,
) -> AnomalyRecipe:
    """The recipe with batches that are no larger than what there is to train on."""
    from gradiometer.anomaly.export import divide

    scans = len(divide(healthy, validation, held_out, 0.5, recipe.seed).train)
    count = scans * len(preparation.places(*healthy.images.shape[-2:]))
    if count >= recipe.batch_size:
        return recipe
    terminal.note(
        f"{count} scans to train on are less than a batch of {recipe.batch_size}, so a step takes all of them"
    )
    return replace(recipe, batch_size=count)


def _report(model: SeverityModel, options: Options, terminal: Terminal) -> None:
    from gradiometer import severity

    path = Path(options.out) / severity.ARTEFACT
    training, calibration = model.detector.training, model.calibration
    assert calibration is not None
    terminal.show(
        f"{path}: {options.network} of epoch {training['best_epoch']}, trained on {training['images']['train']:,} "
        f"inputs; percentiles from {len(calibration):,} healthy scans that it has not seen"
    )
    if calibration.false_alarm_rate > options.false_alarm_rate:
        terminal.note(
            f"{len(calibration)} held-out scans are too few for a false-alarm rate of {options.false_alarm_rate:g}; "
            f"it is {calibration.false_alarm_rate:.2g}"
        )
    terminal.note(f"next: gradiometer severity score --model {path} --images SCANS --out scores.parquet")


COMMAND = Command(
    name="train",
    summary="train on healthy scans",
    purpose="""
        Train a small auto-encoder on healthy scans under the gradient constraint, and learn what healthy scans score
        that it has not seen. One file is all there is at the end: auto-encoder, reference gradients, preparation and
        percentiles. Run the same command again to continue after an interruption.
    """,
    examples="""
        # a folder of healthy scans of any size, resized, grey
        gradiometer severity train --healthy healthy/ --size 64 --channels 1 --out runs/severity

        # large scans in tiles; a scan is as severe as its most severe tile
        gradiometer severity train --healthy healthy/ --size 512 --tile 64 --pool max --out runs/tiles
    """,
    options=Options,
    run=run,
    interrupted="the last checkpoint is kept, run the same command again to continue",
)
