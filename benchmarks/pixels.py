"""Ask how well corrupted images can be told from originals by a network that is trained on the pixels for nothing else.

    python benchmarks/pixels.py --data-root FOLDER --kinds 'Exposure 3' 'Decolor 3' --output docs/results/pixels

A ResNet-20 learns originals against corrupted versions of training images of CIFAR-10, and is tested on test images.
It stands beside `gradiometer benchmark corruptions`, whose detectors see what another network makes of an image: where
this network fails too, no reading can be blamed. `benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measuring import markdown
from measuring.environment import environment
from measuring.options import positive

from gradiometer import data, models
from gradiometer.benchmarks.corruptions import LEVELS, READINGS, name_of
from gradiometer.benchmarks.metrics import evaluate
from gradiometer.challenges import PURVIEW_EIGHT, Corruption, corrupt, corruption
from gradiometer.data import Images
from gradiometer.models.export import channel_statistics
from gradiometer.models.training import Labelled, Recipe, as_input, train

NETWORK = "resnet20"

KINDS = {name_of(title, level): (title, level) for title in PURVIEW_EIGHT for level in LEVELS}
"""Published name with a level -> both."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    known, test = (
        data.load("cifar10", root=options.data_root, split=split, limit=limit)
        for split, limit in (("train", options.images), ("test", options.test_images))
    )
    recipe = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        precision="bfloat16",
        seed=options.seed,
    )
    path = options.output / "pixels.json"
    done = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    for kind in options.kinds:
        if any(row["kind"] == kind for row in done):
            print(f"{kind}: there already", file=sys.stderr, flush=True)
            continue
        print(kind, file=sys.stderr, flush=True)
        done.append(measure(kind, known, test, recipe, options.output / "trainings", options.draws))
        document = {"schema": 1, "network": NETWORK, "environment": environment({"torch", "gradiometer"}), "rows": done}
        markdown.write(options.output, "pixels", document, render(document))
    print((options.output / "pixels.md").read_text(encoding="utf-8"), end="")
    return 0


def measure(kind: str, known: Images, test: Images, recipe: Recipe, folder: Path, draws: int) -> dict[str, Any]:
    """Train a network on a corruption and test it.

    Args:
        kind: Published name and level, as in the table of corruptions.
        known: Images to learn from.
        test: Images to test on.
        recipe: How to train.
        folder: Takes the checkpoints.
        draws: Bootstrap resamples.

    Returns:
        The row of the table, as JSON values.
    """
    title, level = KINDS[kind]
    change = corruption(PURVIEW_EIGHT[title][READINGS["cifar10c"]], level)
    parts = [_labelled(images, change) for images in (known, test)]
    torch.manual_seed(recipe.seed)
    mean, std = channel_statistics(parts[0].images)
    network = models.build(NETWORK, classes=2, mean=mean, std=std)
    record = train(network, *parts, recipe, folder / kind.replace(" ", "-"))
    network.eval()
    scores = []
    with torch.no_grad():
        for batch in parts[1].images.split(500):
            logits = network(as_input(batch, torch.device("cpu"))).double()
            scores.append(logits[:, 1] - logits[:, 0])
    score = torch.cat(scores).numpy()
    metrics = evaluate(score[: len(test)], score[len(test) :], seed=recipe.seed, draws=draws)
    return {
        "kind": kind,
        "auroc": asdict(metrics.auroc),
        "detection_accuracy": metrics.detection_accuracy.value,
        "images": len(known),
        "test_images": len(test),
        "training": record,
    }


def render(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    head = "| kind | AUROC | detection accuracy | learnt from | tested on |\n| --- | ---: | ---: | ---: | ---: |"
    rows = [
        f"| {row['kind']} | {_percent(row['auroc'])} | {100 * row['detection_accuracy']:.1f} | {row['images']:,} "
        f"| {row['test_images']:,} |"
        for row in document["rows"]
    ]
    about = (
        f"Originals of CIFAR-10 against corrupted versions: a {document['network']} trained on the pixels for nothing "
        "else. Figures in percent, AUROC with a 95 % bootstrap interval over images; images are originals, and there "
        "are as many corrupted ones."
    )
    return "\n".join([about, "", head, *rows, ""])


def _percent(interval: dict[str, float]) -> str:
    return f"{100 * interval['value']:.1f} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def _labelled(images: Images, change: Corruption) -> Labelled:
    """Originals, labelled 0, and then their corrupted versions, labelled 1."""
    both = torch.cat([images.images, corrupt(images, change).images])
    return Labelled(both, torch.arange(2).repeat_interleave(len(images)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with cifar10.npz")
    parser.add_argument("--kinds", nargs="+", required=True, choices=KINDS, metavar="KIND", help="such as 'Exposure 3'")
    parser.add_argument("--images", type=positive, default=10_000, help="training images, each with its corrupted one")
    parser.add_argument("--test-images", type=positive, default=2000)
    parser.add_argument("--epochs", type=positive, default=4)
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.1, help="the highest of the schedule")
    parser.add_argument("--draws", type=positive, default=1000, help="bootstrap resamples")
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder of pixels.json and pixels.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
