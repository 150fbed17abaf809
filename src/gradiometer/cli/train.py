"""`gradiometer train classifier`, which is `gradiometer train` as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from gradiometer.cli import artefacts, sources
from gradiometer.cli.artefacts import DEVICE
from gradiometer.cli.command import Command, option
from gradiometer.cli.sources import FORMS, LIMIT, Reading
from gradiometer.cli.terminal import Terminal
from gradiometer.errors import InputError

if TYPE_CHECKING:
    from gradiometer.data import Images
    from gradiometer.models import Labelled

_RECIPE = "recipe (defaults are those of the architecture)"
_TEST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Options(Reading):
    """Settings of the command; those of the recipe have the names of `gradiometer.models.Recipe`."""

    architecture: str = option(
        "resnet20, resnet18, resnet34, densenet-bc-40-12, densenet-bc-100-12, digits-cnn, cure-tsr-lenet"
    )
    known: str = option(f"labelled training images: {FORMS}")
    out: str = option("folder for model.safetensors, record.json and the checkpoint")
    test: str | None = option("labelled images to measure accuracy on; a tenth of the known ones when absent", None)
    limit: int | None = option(LIMIT, None)
    start_from: str | None = option("folder of an earlier training whose weights to begin with", None)
    device: str = option(DEVICE, "auto")
    half: bool = option("store the weights as float16 (true) or float32 (false)", True)
    epochs: int | None = option("passes over the training images", None, group=_RECIPE)
    batch_size: int | None = option("images in a step", None, group=_RECIPE)
    learning_rate: float | None = option("highest learning rate of the schedule", None, group=_RECIPE)
    average: float | None = option(
        "decay of a moving average of the weights, such as 0.999; 0 for none", None, group=_RECIPE
    )
    schedule: Literal["one-cycle", "cosine", "constant"] | None = option(
        "how the learning rate changes", None, group=_RECIPE
    )
    momentum: float | None = option("Nesterov momentum", None, group=_RECIPE)
    weight_decay: float | None = option("of weights, not of biases", None, group=_RECIPE)
    label_smoothing: float | None = option("share of the label spread over all classes", None, group=_RECIPE)
    augment: Literal["crop-flip", "crop", "none"] | None = option(
        "shift and mirror, shift alone (digits, signs), or nothing", None, group=_RECIPE
    )
    precision: Literal["float32", "bfloat16"] | None = option("of the forward pass", None, group=_RECIPE)
    seed: int | None = option("of weights, order and augmentation", None, group=_RECIPE)


RECIPE = tuple(name for name, entry in Options.__dataclass_fields__.items() if entry.metadata["group"] == _RECIPE)
"""Names of the options that make up the recipe."""


def run(options: Options, terminal: Terminal) -> None:
    """Train, or continue, and write the model."""
    from gradiometer import data, models
    from gradiometer.models.factory import architecture

    given = {name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None}
    recipe = replace(architecture(options.architecture).recipe, **given)
    known = sources.load(options.known, options, limit=options.limit)
    if options.test is None:
        parts = data.split(known, {"known": 1 - _TEST_SHARE, "test": _TEST_SHARE})
        known, test = parts["known"], parts["test"]
    else:
        test = sources.load(options.test, options, limit=options.limit, shape=known.images.shape[1:])
    terminal.note(f"training {options.architecture} on {len(known):,} images of {len(known.classes)} classes")

    def epoch(figures: dict[str, Any]) -> None:
        terminal.note(
            f"epoch {figures['epoch']} of {recipe.epochs}: loss {figures['loss']:.4f}, "
            f"accuracy {figures['accuracy']:.2%}, test accuracy {figures['test_accuracy']:.2%}, "
            f"{figures['seconds']:.1f} s"
        )

    with terminal.progress() as progress:
        record = models.train_to_file(
            options.architecture,
            _labelled(known, options.known),
            _labelled(test, options.test or options.known),
            options.out,
            recipe,
            class_names=known.classes or None,
            start_from=options.start_from,
            half=options.half,
            device=artefacts.device_named(options.device),
            progress=epoch,
            steps=lambda done, total: progress("batches", done, total),
        )
    terminal.show(f"{options.out}: test accuracy {record['test_accuracy']:.2%} on {len(test):,} images")


def _labelled(images: Images, name: str) -> Labelled:
    from gradiometer.models import Labelled

    if images.labels is None:
        raise InputError(f"the images of {name} have no labels, and training needs them: one sub-folder for each class")
    return Labelled(images.images, images.labels)


COMMAND = Command(
    name="classifier",
    summary="train a classifier of small images",
    purpose="""
        Train a network on labelled images, from random weights, and write it to a folder that the other commands take
        as --model. A checkpoint follows every epoch: run the same command again to continue after an interruption.
        Skip this when you have a network already.
    """,
    examples="""
        # the digits that come with scikit-learn, in a few seconds
        gradiometer train classifier --architecture digits-cnn --known digits@0-50 --out runs/digits

        # CIFAR-10 as an .npz file
        gradiometer train classifier --architecture resnet20 --known cifar10.npz:train --test cifar10.npz:test \\
            --out runs/cifar10

        # a folder with one sub-folder for each class, resized
        gradiometer train classifier --architecture resnet18 --known photos/ --size 64 --epochs 20 --out runs/photos
    """,
    options=Options,
    run=run,
    interrupted="every finished epoch is in the checkpoint, run the same command again to continue",
)
