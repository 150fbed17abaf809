"""Compare reading gradient features of images with one training epoch over the same images.

    python benchmarks/throughput.py --data-root FOLDER --images 10000 --output docs/results/throughput

Both work on the same images of CIFAR-10 with a ResNet-20, on the same number of threads, in turns: a portion of the
images is read, then trained on, and so on, so that whatever else the machine does weighs on both.
`benchmarks/README.md` says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from measuring.environment import environment
from torch import nn

from gradiometer import data, models
from gradiometer.detectors import Purview
from gradiometer.gradients import Gradiometer

NETWORK = "resnet20"


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line."""

    images: int
    portion: int
    batch_size: int
    threads: int
    seed: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    options = _parser().parse_args(arguments)
    settings = Settings(options.images, options.portion, options.batch_size, options.threads, options.seed)
    torch.set_num_threads(settings.threads)
    images = data.load("cifar10", root=options.data_root, split="train", limit=settings.images)
    result = measure(images.images, images.labels, settings)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "throughput.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = render(result)
    (options.output / "throughput.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def measure(images: torch.Tensor, labels: torch.Tensor | None, settings: Settings) -> dict[str, Any]:
    """Time both, portion by portion.

    Args:
        images: uint8 (N, 3, 32, 32).
        labels: int64 (N,).
        settings: How to measure.

    Returns:
        Seconds of every portion, their sums, and the ratio, as JSON values.
    """
    if labels is None:
        raise SystemExit("training needs labels, and these images have none")
    torch.manual_seed(settings.seed)
    trained = models.build(NETWORK, classes=10)
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    read = models.build(NETWORK, classes=10).eval()
    meter = Gradiometer(read, Purview(read).objective)

    def reading(batch: torch.Tensor, _: torch.Tensor) -> None:
        meter.squared_norms(batch, activations=True)

    def step(batch: torch.Tensor, truth: torch.Tensor) -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(trained(batch), truth).backward()
        optimiser.step()

    trained.train()
    jobs: dict[str, Callable[[torch.Tensor, torch.Tensor], None]] = {"reading": reading, "training": step}
    warm = images[: settings.batch_size].float() / 255
    for job in jobs.values():
        job(warm, labels[: settings.batch_size])
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number, rows in enumerate(torch.arange(len(images)).split(settings.portion)):
        names = list(jobs) if number % 2 == 0 else list(jobs)[::-1]
        for name in names:
            started = time.perf_counter()
            for part in rows.split(settings.batch_size):
                jobs[name](images[part].float() / 255, labels[part])
            seconds[name].append(time.perf_counter() - started)
    ratios = [one / other for one, other in zip(seconds["reading"], seconds["training"], strict=True)]
    return {
        "settings": asdict(settings),
        "environment": environment({"torch", "gradiometer"}),
        "network": NETWORK,
        "seconds": {name: sum(values) for name, values in seconds.items()},
        "portions": seconds,
        "ratio": sum(seconds["reading"]) / sum(seconds["training"]),
        "median_ratio": statistics.median(ratios),
        "ratios": [min(ratios), max(ratios)],
    }


def render(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    count, sums = result["settings"]["images"], result["seconds"]
    low, high = result["ratios"]
    return (
        f"Gradient features of {count:,} images of CIFAR-10 with {result['network']}, beside one training epoch "
        f"over the same images, {result['settings']['threads']} thread(s):\n\n"
        "| | seconds | images a second |\n| --- | ---: | ---: |\n"
        f"| reading | {sums['reading']:.1f} | {count / sums['reading']:.0f} |\n"
        f"| training | {sums['training']:.1f} | {count / sums['training']:.0f} |\n\n"
        f"Ratio {result['ratio']:.2f}; median over portions {result['median_ratio']:.2f}, "
        f"from {low:.2f} to {high:.2f}.\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with cifar10.npz")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--portion", type=int, default=512, help="images between one turn and the next")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(), help="folder of throughput.json and throughput.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
