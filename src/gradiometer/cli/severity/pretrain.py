"""`gradiometer severity pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gradiometer.cli import artefacts
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.severity import cohorts
from gradiometer.cli.severity.cohorts import FORMS, Described
from gradiometer.cli.sources import LIMIT
from gradiometer.cli.terminal import Terminal

if TYPE_CHECKING:
    from gradiometer.data import Cohort

_RECIPE = "recipe (the published one)"
_VIEWS = "what two views of an image differ by"


@dataclass(frozen=True, kw_only=True)
class Options(Described):
    """Settings of the command: those of `severity.contrastive.ContrastiveRecipe`, `Augmentation`, `EncoderSettings`."""

    images: str = option(f"images to learn from; their targets are not needed: {FORMS}")
    out: str = option("folder for encoder.safetensors, record.json and the checkpoint")
    columns: tuple[str, ...] = option(
        "columns whose equal values make two images alike, such as label BCVA CST Eye_ID; their losses are summed, and "
        "image adds that of SimCLR, which is all there is without columns",
        (),
    )
    encoder: Literal["resnet18", "resnet50", "resnet20", "resnet8"] = option(
        "residual network; the last two are narrow, for images up to 64 pixels", "resnet18"
    )
    stem: Literal["large", "small"] | None = option(
        "7 x 7 in steps of two for scans, 3 x 3 for images up to 64 pixels; by their size when absent", None
    )
    limit: int | None = option(LIMIT, None)
    device: str = option(DEVICE, "auto")
    epochs: int = option("passes over the images", 25, group=_RECIPE)
    batch_size: int = option("images in a step", 64, group=_RECIPE)
    learning_rate: float = option("highest learning rate of the schedule", 1e-3, group=_RECIPE)
    schedule: Literal["constant", "cosine"] = option("how the learning rate changes", "constant", group=_RECIPE)
    temperature: float = option("of the loss", 0.07, group=_RECIPE)
    weights: tuple[float, ...] = option("factor of the loss of each column; 1 when absent", (), group=_RECIPE)
    momentum: float = option("of the optimiser", 0.9, group=_RECIPE)
    weight_decay: float = option("of all parameters", 1e-4, group=_RECIPE)
    seed: int = option("of weights, order and views", 0, group=_RECIPE)
    smallest_crop: float = option("share of the area that a crop has at least; 1 for no crop", 0.2, group=_VIEWS)
    mirror: float = option("share of the views that are mirrored", 0.5, group=_VIEWS)
    jitter: float = option("reach of brightness, contrast and saturation; 0 leaves colours alone", 0.4, group=_VIEWS)
    jitter_share: float = option("share of the views whose colours are changed", 0.8, group=_VIEWS)
    grey_share: float = option("share of the views that lose their colour", 0.2, group=_VIEWS)


def run(options: Options, terminal: Terminal) -> None:
    """Load the images and train."""
    train(options, cohorts.load(options.images, options, limit=options.limit), terminal)
    terminal.note(
        f"next: gradiometer severity probe --encoders {options.out} --train IMAGES --test OTHER_IMAGES --targets COLUMN"
    )


def train(options: Options, cohort: Cohort, terminal: Terminal) -> None:
    """Train, or continue, and write the encoder.

    Args:
        options: The settings; where images are is not looked at.
        cohort: The images.
        terminal: Where to say so.
    """
    from gradiometer.severity import contrastive

    recipe = contrastive.ContrastiveRecipe(
        temperature=options.temperature,
        weights=options.weights,
        augmentation=contrastive.Augmentation(
            options.smallest_crop, options.mirror, options.jitter, options.jitter_share, options.grey_share
        ),
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        schedule=options.schedule,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        seed=options.seed,
    )
    settings = contrastive.settings_for(cohort.images.images, options.encoder, options.stem)
    by = " + ".join(options.columns) or "SimCLR, no labels"
    patients = "" if cohort.patients is None else f" of {len({*cohort.patients} - {''}):,} patients"
    terminal.note(f"pre-training {options.encoder} on {len(cohort):,} images{patients}: {by}")

    def epoch(figures: dict[str, Any]) -> None:
        terminal.note(
            f"epoch {figures['epoch']} of {options.epochs}: loss {figures['loss']:.4f}, {figures['seconds']:.1f} s"
        )

    with terminal.progress() as progress:
        trained = contrastive.pretrain_to_file(
            cohort,
            options.columns,
            options.out,
            settings,
            recipe,
            device=artefacts.device_named(options.device),
            progress=epoch,
            steps=lambda done, total: progress("steps", done, total),
        )
    for name, found in trained.record["columns"].items():
        terminal.note(f"{name}: {found['labels']:,} different labels on {found['labelled']:,} images")
    last = trained.record["epochs"][-1]["loss"]
    terminal.show(f"{options.out}: {options.encoder}, loss {last:.4f} after {options.epochs} epochs")


COMMAND = Command(
    name="pretrain",
    summary="train an encoder by severity labels and other weak labels",
    purpose="""
        Contrastive pre-training: two views of an image, and images with the same label, are pulled together, all others
        apart. Severity labels need no physician; clinical columns that come with every scan can be added. Run the same
        command again to continue after an interruption.
    """,
    examples="""
        # severity labels of a folder of scans, and the published recipe
        gradiometer severity pretrain --images scans/ --size 224 --channels 1 --table labels.parquet --columns label \\
            --out runs/encoder

        # the pool of OLIVES with clinical labels
        gradiometer severity pretrain --images OLIVES:pool1 --size 224 --channels 1 --columns BCVA CST Eye_ID \\
            --out runs/clinical

        # small colour images, SimCLR
        gradiometer severity pretrain --images retina_mnist:train --encoder resnet8 --learning-rate 0.1 \\
            --schedule cosine --out runs/simclr
    """,
    options=Options,
    run=run,
    interrupted="the last checkpoint is kept, run the same command again to continue",
)
