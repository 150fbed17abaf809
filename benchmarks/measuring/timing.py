"""Times of several contenders in one process, taken in turns."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Call = Callable[[], object]


def interleaved(
    calls: Mapping[str, Call], repeats: Mapping[str, int], seed: int, after: Callable[[str], None] | None = None
) -> dict[str, list[float]]:
    """Time calls in rounds, each in a new order, so that a drift of the machine meets all of them alike.

    Those with fewer repeats sit rounds out, evenly spread. Nothing is warmed up here.

    Args:
        calls: What to time, by name.
        repeats: How often, by name.
        seed: Seed of the orders.
        after: Called with the name after each call; not timed.

    Returns:
        Seconds of every call, by name, in the order in which they were taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    rounds = max((repeats[name] for name in calls), default=0)
    order = random.Random(seed)
    with _imports_frozen():
        for number in range(rounds):
            # Of 15 rounds, a call with 3 repeats takes part in the first, the sixth and the eleventh.
            due = [name for name in calls if number * repeats[name] % rounds < repeats[name]]
            order.shuffle(due)
            for name in due:
                taken[name].append(timed(calls[name]))
                if after is not None:
                    after(name)
    return taken


@contextmanager
def _imports_frozen() -> Iterator[None]:
    """Spare what is there the garbage collection before each call, which would leave nothing else in the caches."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(call: Call) -> float:
    """Seconds of one call, without garbage collection during it."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    finally:
        gc.enable()


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    if len(seconds) == 1:
        return seconds[0], seconds[0], seconds[0]
    first, middle, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return first, middle, third
