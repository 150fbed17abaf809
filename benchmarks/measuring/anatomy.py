"""Where the time of a reading goes: forward pass, backward pass of activations, and the statistic of each layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from gradiometer import Gradiometer
from gradiometer.gradients.collector import Collector
from gradiometer.gradients.factors import Factor
from gradiometer.gradients.reader import Reader
from gradiometer.gradients.rules import costs
from measuring.contenders import FLOOR, INSTRUMENT, STEP
from measuring.markdown import machine_text, number, table, when_text
from measuring.networks import Network

SCHEMA = 1

#: What the parts of a reading are compared with.
BESIDE = ("forward", FLOOR, STEP, INSTRUMENT)


@dataclass
class Spent:
    """What the statistics of one use of parameters took.

    Attributes:
        parameters: Names of the parameters.
        shapes: Their shapes.
        forms: The form of each.
        seconds: Seconds for the whole batch.
        predicted: What the cost model expects of the chosen form, in seconds on one core; None where it is not asked.
    """

    parameters: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    seconds: float = 0.0
    predicted: float | None = None


@dataclass
class Reading:
    """What one reading took, in seconds.

    Attributes:
        whole: All of it.
        forward: Up to the beginning of the backward pass.
        backward: The backward pass, with the statistics that are taken on the way.
        uses: The statistics, in the order of the backward pass.
    """

    whole: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    uses: list[Spent] = field(default_factory=list)

    @property
    def statistics(self) -> float:
        """All statistics together."""
        return sum(use.seconds for use in self.uses)


def dissect(network: Network, batch: int, seed: int, repeats: int) -> dict[str, Any]:
    """Read a batch several times and take the medians of all parts.

    Args:
        network: The network and its task.
        batch: Number of samples B.
        seed: Seed of weights and inputs.
        repeats: Number of readings.

    Returns:
        Seconds of the parts, and one entry for each use of parameters.
    """
    model, inputs = network.make(seed), network.draw(batch, seed)
    meter, reference = Gradiometer(model, network.objective), network.reference(dict(model.named_parameters()))
    network.statistic.read(meter, inputs, reference)  # makes the plan
    readings = []
    for _ in range(repeats):
        with _listening(batch) as reading:
            start = time.perf_counter()
            network.statistic.read(meter, inputs, reference)
            reading.whole = time.perf_counter() - start
        readings.append(reading)
    parts = {
        "whole": [reading.whole for reading in readings],
        "forward": [reading.forward for reading in readings],
        "activations": [reading.backward - reading.statistics for reading in readings],
        "statistics": [reading.statistics for reading in readings],
        "rest": [reading.whole - reading.forward - reading.backward for reading in readings],
    }
    uses = [
        asdict(same[0]) | {"seconds": median(use.seconds for use in same)}
        for same in zip(*(reading.uses for reading in readings), strict=True)
    ]
    return {
        "title": network.title,
        "batch": batch,
        "repeats": repeats,
        "parts": {name: median(values) for name, values in parts.items()},
        "uses": [use for use in uses if use["parameters"]],
        "waiting": sum(use["seconds"] for use in uses if not use["parameters"]),
        "looped": [line.parameter for line in meter.plan().lines if line.path == "loop"],
    }


@contextmanager
def _listening(batch: int) -> Iterator[Reading]:
    """Listen to what the instrument does, and for how long."""
    reading, began = Reading(), time.perf_counter()
    seconds = costs.seconds
    owners: dict[str, type] = {"arrived": Collector, "_add_up": Collector, "_keep": Collector, "backward": Reader}
    originals = {name: getattr(owner, name) for name, owner in owners.items()}
    asked: dict[str, float] = {}

    def use(name: str) -> Callable[..., None]:
        def timed(self: Collector, *arguments: Any) -> None:
            asked.clear()
            reading.uses.append(Spent())
            start = time.perf_counter()
            originals[name](self, *arguments)
            reading.uses[-1].seconds = time.perf_counter() - start

        return timed

    def backward(self: Reader, *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        reading.forward = reading.forward or start - began
        found = originals["backward"](self, *arguments, **options)
        reading.backward += time.perf_counter() - start
        return found

    def keep(self: Collector, name: str, statistic: Any, factor: Factor) -> None:
        spent = reading.uses[-1]
        spent.parameters.append(name)
        spent.shapes.append(tuple(factor.shape))
        spent.forms.append(factor.form)
        if factor.form in asked:
            spent.predicted = (spent.predicted or 0.0) + batch * asked[factor.form]
        originals["_keep"](self, name, statistic, factor)

    def listen(form: str, task: costs.Task) -> float:
        asked[form] = seconds(form, task)
        return asked[form]

    patches = {"arrived": use("arrived"), "_add_up": use("_add_up"), "_keep": keep, "backward": backward}
    try:
        costs.seconds = listen
        for name, method in patches.items():
            setattr(owners[name], name, method)
        yield reading
    finally:
        costs.seconds = seconds
        for name, method in originals.items():
            setattr(owners[name], name, method)


def render(document: Mapping[str, Any], most: int = 40) -> str:
    """The whole document in Markdown.

    Args:
        document: The record.
        most: How many layers are shown of a network, the most expensive ones.
    """
    machines = dict.fromkeys(machine_text(each["environment"]) for each in document["sections"])
    parts = ["# Where the time of a reading goes", *machines]
    return "\n\n".join([*parts, *(_section(each, most) for each in document["sections"])]) + "\n"


def _section(found: Mapping[str, Any], most: int) -> str:
    beside, parts, step = found["beside"], found["parts"], found["beside"][STEP]
    rows = [
        ("forward pass alone", beside["forward"]),
        ("floor: forward pass and backward pass of activations", beside[FLOOR]),
        ("training step", step),
        ("**reading**", beside[INSTRUMENT]),
        ("reading: forward pass, with the input of each layer kept", parts["forward"]),
        ("reading: backward pass of activations", parts["activations"]),
        ("reading: statistics", parts["statistics"]),
        ("reading: the rest (loop, assembling)", parts["rest"]),
    ]
    whole = table(["", "ms", "× step"], [[what, _ms(value), f"{value / step:.2f}"] for what, value in rows])
    uses = sorted(found["uses"], key=lambda use: -use["seconds"])
    body = [
        [
            ", ".join(use["parameters"]),
            ", ".join("×".join(map(str, shape)) for shape in use["shapes"]),
            ", ".join(dict.fromkeys(use["forms"])),
            _ms(use["seconds"]),
            f"{100 * use['seconds'] / parts['whole']:.1f}",
            "–" if use["predicted"] is None else _ms(use["predicted"] / found["environment"]["threads"]),
        ]
        for use in uses[:most]
    ]
    layers = table(["parameters", "shape", "form", "ms", "% of the reading", "predicted, ms"], body)
    notes = [f"{when_text(found['environment'])}, medians of {found['repeats']}."]
    if len(uses) > most:
        notes.append(f"The {most} most expensive of {len(uses)} uses of parameters.")
    if found["waiting"] > 1e-5:
        notes.append(f"Uses of parameters that are used again later take {_ms(found['waiting'])} ms.")
    if found["looped"]:
        notes.append(f"Left to the loop: {', '.join(found['looped'])}.")
    return "\n\n".join([f"## {found['title']}, batch {found['batch']}", " ".join(notes), whole, layers])


def _ms(seconds: float) -> str:
    return number(1e3 * seconds)
