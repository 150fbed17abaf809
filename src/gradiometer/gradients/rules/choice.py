"""Which of the forms of a convolution's gradient is the cheapest for its sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gradiometer.gradients.rules import costs
from gradiometer.gradients.rules.geometry import Geometry, Lines

#: Rows below which a matrix product is slow.
ROWS = 32


@dataclass(frozen=True)
class Chosen:
    """What the sizes of a convolution decide.

    Attributes:
        lines: Where positions lie in the flattened input, or None; see `Geometry.lines`.
        task: What the cost model is asked. Windows are copied that move by more than one pixel, and those of few
            channels, to make products larger.
        prices: Seconds for one sample, by form of the squared norm.
        explicit: The cheapest form for explicit gradients.
        form: The cheapest form for the squared norm.
    """

    lines: Lines | None
    task: costs.Task
    prices: Mapping[str, float]
    explicit: str
    form: str


@functools.lru_cache(maxsize=4096)
def chosen(
    geometry: Geometry,
    inputs: tuple[int, ...],
    errors: tuple[int, ...],
    there: tuple[str, ...],
    seconds: Callable[[str, costs.Task], float],
    *,
    apart: bool,
) -> Chosen:
    """Choose the forms of a convolution.

    Args:
        geometry: How the kernel moves.
        inputs: Frames of a sample, and channels of the input.
        errors: Channels and positions of the output.
        there: Forms that are kernels of our own.
        seconds: The cost model.
        apart: Whether channels are not the fastest dimension in memory.
    """
    (frames, channels), (outputs, *positions) = inputs, errors
    lines = geometry.lines(tuple(positions)) if frames == 1 else None
    each = channels // geometry.groups
    task = costs.Task(
        positions=math.prod(positions) * frames,
        pixels=math.prod(geometry.reach(tuple(positions))),
        inputs=each,
        outputs=outputs // geometry.groups,
        kernel=math.prod(geometry.kernel),
        groups=geometry.groups,
        copied=lines is None or each * lines.run < ROWS,
    )
    explicit = min(("offsets", "groups"), key=lambda form: seconds(form, task))
    prices = {explicit: seconds(explicit, task)}
    if frames == 1:
        prices["gram"] = seconds("gram", task)
    for form in there:
        prices[form] = seconds(form, replace(task, copied=apart))
    return Chosen(lines, task, prices, explicit, min(prices, key=lambda form: prices[form]))
