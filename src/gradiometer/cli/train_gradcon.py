"""`gradiometer train gradcon`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE, Origin
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal

_RECIPE = "recipe (the published one, but for the number of epochs)"
_CONSTRAINT = "gradient constraint"
_DETECTOR = "detector"


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command: those of `gradiometer.anomaly.AnomalyRecipe`, `Constraint` and `GradCon`."""

    known: str = option(f"normal images, and nothing else: {FORMS}")
    out: str = option("folder for gradcon.safetensors, record.json and the checkpoint")
    validation: str | None = option(
        "other normal images to choose the weights by; a tenth of the known when absent", None
    )
    held_out: str | None = option(
        "other normal images to set the false-alarm rate on, 19 or more for 5 %; a tenth of the known when absent", None
    )
    false_alarm_rate: float = option("share of normal images that may be flagged", 0.05)
    tensorboard: str | None = option(
        "folder for the curves that TensorBoard shows, which comes with gradiometer[tensorboard]",
        None,
    )
    limit: int | None = option(LIMIT, None)
    device: str = option(DEVICE, "auto")
    network: Literal["cae", "vae"] = option("convolutional auto-encoder, or the variational one", "cae", group=_RECIPE)
    epochs: int = option(
        "passes over the training images; more of them continue a finished training", 40, group=_RECIPE
    )
    patience: int = option(
        "stop after so many epochs without a better criterion on the validation images; 0 for never", 0, group=_RECIPE
    )
    batch_size: int = option("images in a step", 64, group=_RECIPE)
    learning_rate: float = option("of Adam", 1e-3, group=_RECIPE)
    latent_weight: float = option("weight of the latent loss of the vae", 1.0, group=_RECIPE)
    seed: int = option("of weights, order, latent noise and division of the images", 0, group=_RECIPE)
    alpha: float = option("weight of the mean cosine in training; 0 for no constraint", 0.03, group=_CONSTRAINT)
    layers: tuple[str, ...] = option("names of the constrained parameters", ("decoder.*.weight",), group=_CONSTRAINT)
    decay: float = option(
        "what the reference keeps at each step; 1 for the mean over all steps", 1.0, group=_CONSTRAINT
    )
    start: int = option("steps before the reference begins", 0, group=_CONSTRAINT)
    score: Literal[
        "combined", "fused", "reconstruction", "latent", "gradient", "density", "subspace", "whitened", "aligned"
    ] = option("what an image is scored by", "combined", group=_DETECTOR)
    beta: float = option("weight of the mean cosine in the combined score", 0.12, group=_DETECTOR)
    neighbours: int = option("k of the density", 10, group=_DETECTOR)


def run(options: Options, terminal: Terminal) -> None:
    """Train, or continue, and write the detector."""
    from gradiometer import anomaly

    layers: Any = options.layers[0] if len(options.layers) == 1 else options.layers
    recipe = anomaly.AnomalyRecipe(
        network=options.network,
        constraint=anomaly.Constraint(options.alpha, layers, options.decay, options.start),
        epochs=options.epochs,
        patience=options.patience,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        latent_weight=options.latent_weight,
        seed=options.seed,
    )
    known = sources.load(options.known, options, limit=options.limit)
    shape = known.images.shape[1:]
    validation, held_out = (
        None if name is None else sources.load(name, options, limit=options.limit, shape=shape)
        for name in (options.validation, options.held_out)
    )
    size = " x ".join(map(str, shape))
    terminal.note(f"training a {options.network} on normal images of {size} (channels x height x width)")

    curves = None if options.tensorboard is None else anomaly.Curves(options.tensorboard)

    def epoch(figures: dict[str, Any]) -> None:
        if curves is not None:
            curves(figures)
        terminal.note(
            f"epoch {figures['epoch']} of {options.epochs}: loss {figures['loss']:.5f} (reconstruction "
            f"{figures['reconstruction']:.5f}, latent {figures['latent']:.5f}, gradient {-figures['cosine']:+.3f}), "
            f"mean cosine {figures['cosine']:+.3f}, validation loss {figures['validation_loss']:.5f}, "
            f"{figures['seconds']:.1f} s"
        )

    with curves or nullcontext(), terminal.progress() as progress:
        detector = anomaly.train_gradcon(
            known,
            options.out,
            recipe,
            validation=validation,
            held_out=held_out,
            false_alarm_rate=options.false_alarm_rate,
            settings={"score": options.score, "beta": options.beta, "neighbours": options.neighbours},
            device=artefacts.device_named(options.device),
            progress=epoch,
            steps=lambda done, total: progress("steps", done, total),
        )
    path = Path(options.out) / anomaly.ARTEFACT
    origin = Origin(
        size=options.size,
        channels=options.channels,
        known=options.known,
        held_out=options.held_out or f"a tenth of {options.known}",
    )
    artefacts.save(detector, str(path), origin)
    artefacts.describe(detector, terminal)
    best = detector.training["best_epoch"]
    terminal.show(
        f"{path}: {options.network} of epoch {best}, trained on {detector.training['images']['train']:,} images"
    )
    if detector.calibration is None:
        terminal.note(
            f"too few images for a false-alarm rate of {options.false_alarm_rate}; next: gradiometer calibrate "
            f"--detector {path} --held-out OTHER_NORMAL_IMAGES"
        )
    else:
        terminal.note(f"next: gradiometer score --detector {path} --images NEW_IMAGES --out scores.csv")


COMMAND = Command(
    name="gradcon",
    summary="train an auto-encoder of normal images, and its detector",
    purpose="""
        Train a small auto-encoder on normal images under the gradient constraint, so that the gradients of normal
        images agree, and call abnormal what it cannot reconstruct or what would change it in another direction. One
        file is all there is at the end: auto-encoder, reference gradients and false-alarm rate, for score, explain and
        calibrate. Run the same command again to continue after an interruption.
    """,
    examples="""
        # a folder of photographs of good parts
        gradiometer train gradcon --known good/ --size 64 --channels 1 --out runs/parts

        # normal images of a split, stop when it no longer gets better
        gradiometer train gradcon --known scans.npz:train --epochs 200 --patience 20 --out runs/scans
    """,
    options=Options,
    run=run,
    interrupted="the last checkpoint is kept, run the same command again to continue",
)
