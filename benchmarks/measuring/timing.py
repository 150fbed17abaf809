"""Times of several contenders in one process, taken in turns."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping

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
    gc.collect()
    gc.freeze()  # or else each collection walks through all that was imported, and leaves nothing else in the caches
    try:
        _in_turns(calls, repeats, seed, after, taken)
    finally:
        gc.unfreeze()
    return taken


def _in_turns(
    calls: Mapping[str, Call],
    repeats: Mapping[str, int],
    seed: int,
    after: Callable[[str], None] | None,
    taken: dict[str, list[float]],
) -> None:
    rounds = max((repeats[name] for name in calls), default=0)
    order = random.Random(seed)
    for number in range(rounds):
        # Of 15 rounds, a call with 3 repeats takes part in the first, the sixth and the eleventh.
        due = [name for name in calls if number * repeats[name] % rounds < repeats[name]]
        order.shuffle(due)
        for name in due:
            taken[name].append(timed(calls[name]))
            if after is not None:
                after(name)


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
