"""What the constraint costs in training, and what a score costs in batches and one by one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradiometer.anomaly import AnomalyRecipe, Constraint, GradCon, make_network, train
from gradiometer.anomaly.networks import Kind
from gradiometer.benchmarks.gradcon import measures
from gradiometer.benchmarks.gradcon.measures import Measure
from gradiometer.benchmarks.gradcon.settings import GradConBench

_IMAGES = 1000
_TRAININGS, _EPOCHS = 7, 2
_ROUNDS = 15


def run(bench: GradConBench) -> None:
    """Measure on random images of 3 x 28 x 28, which cost what real ones cost.

    Each figure is the median of several rounds, with the fastest and the slowest as its ends.

    Args:
        bench: Settings and records.
    """
    count = min(bench.settings.limit or _IMAGES, _IMAGES)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 28, 28), dtype=torch.uint8, generator=generator)
    bench.say("costs", 0, 2)
    _training(bench, images)
    bench.say("costs", 1, 2)
    _scoring(bench, images)
    bench.say("costs", 2, 2)


def _training(bench: GradConBench, images: Tensor) -> None:
    """What an epoch costs, with the constraint and without, in turns."""
    recipes = {
        f"{kind}+grad" if alpha else kind: AnomalyRecipe(kind, Constraint(alpha=alpha), epochs=_EPOCHS, batch_size=50)
        for kind in get_args(Kind)
        for alpha in (0.0, 0.03)
    }
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(_TRAININGS):
        for name, recipe in recipes.items():
            with tempfile.TemporaryDirectory() as folder:
                record = train(images, images[:50], recipe, Path(folder)).record
            # The first epoch warms up; validation and checkpoint count as they do in any training.
            found[name] += [1000 * figures["seconds"] / len(images) for figures in record["epochs"][1:]]
    for name, recipe in recipes.items():
        network = make_network(recipe.network, 3, 28, seed=0)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        _write(bench, name, "parameters", [float(parameters)], "parameters", len(images))
        _write(bench, name, "training, an image and epoch", found[name], "ms", len(images))


def _scoring(bench: GradConBench, images: Tensor) -> None:
    network = make_network("cae", 3, 28, seed=0).eval()
    named = dict(network.named_parameters())
    reference = {n: torch.randn_like(p) for n, p in named.items() if n.startswith("decoder") and n.endswith("weight")}
    detector = GradCon(network, reference).fit(images.numpy())
    pixels = images.float() / 255
    weights = [named[name] for name in reference]
    directions = [detector.reference[name].reshape(1, -1) for name in reference]

    def loop() -> Tensor:
        scores = []
        for image in pixels.split(1):
            loss = F.mse_loss(network(image), image)
            gradients = torch.autograd.grad(loss, weights)
            cosines = [F.cosine_similarity(g.reshape(1, -1), r) for g, r in zip(gradients, directions, strict=True)]
            scores.append(loss.item() - detector.beta * torch.cat(cosines).mean().item())
        return torch.tensor(scores, dtype=torch.float64)

    def forward() -> None:
        with torch.no_grad():
            for part in pixels.split(detector.batch_size):
                network(part)

    def floor() -> None:
        first, *others = network.decoder
        for part in pixels.split(detector.batch_size):
            with torch.no_grad():
                output = first(network.encoder(part))
            image = output.requires_grad_()
            for layer in others:
                image = layer(image)
            torch.autograd.grad(F.mse_loss(image, part), output)

    batched, alone = detector.predict(images.numpy()), loop()
    _write(
        bench,
        "scores, batched against one by one",
        "largest difference",
        [float((batched - alone).abs().max())],
        "",
        len(images),
    )
    calls: dict[str, Callable[[], object]] = {
        "forward pass alone": forward,
        "forward pass, and backward pass of activations in the decoder": floor,
        "batched": lambda: detector.predict(images.numpy()),
        "one by one": loop,
    }
    for subject, found in _timed(calls, len(images)).items():
        _write(bench, subject, "scoring, an image", found, "ms", len(images))


def _timed(calls: Mapping[str, Callable[[], object]], images: int) -> dict[str, list[float]]:
    """Milliseconds for one image, in turns, after a round that warms up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_ROUNDS + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                found[name].append(1000 * (time.perf_counter() - started) / images)
    return found


def _write(bench: GradConBench, subject: str, figure: str, values: list[float], unit: str, images: int) -> None:
    measure = Measure(
        "cost", subject, figure, float(np.median(values)), min(values), max(values), unit, 0, {"images": images}
    )
    measures.append(bench.settings.out / "measures.jsonl", measure)
